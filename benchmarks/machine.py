"""Description of the machine: the header of every saved part."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from playground.running.cores import threads
from playground.running.environment import describe_device, environment


def describe(device: torch.device, quick: bool) -> dict[str, Any]:
    """Device, processor, memory, versions, commit, time (UTC), and the 1-minute load before the measurement."""
    found: dict[str, Any] = {
        "device": describe_device(device, threads(None)),
        "processor": processor(),
        "cores": threads(None),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load": round(os.getloadavg()[0], 2),
        **environment(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if device.type == "cuda":
        found["versions"] = {**found["versions"], "cuda": torch.version.cuda}
        found["device_memory_gb"] = round(torch.cuda.get_device_properties(device).total_memory / 1e9)
    return {"header": True, **found, **({"quick": True} if quick else {})}


def processor() -> str:
    """Model name of the processor; on systems other than Linux, its type."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
