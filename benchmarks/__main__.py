"""`python -m benchmarks [--device cpu|cuda] [--only NAME] [--save FILE]`: JSON lines; the first describes the machine."""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, saved
from playground.running.environment import pick_device

BENCHMARKS = (
    "floors",
    "train_step",
    "loss_memory",
    "optimizer_step",
    "replicas",
    "task_speed",
    "probe_overhead",
    "decoding",
    "app_pages",
)
"""Modules of this package with `run(device, quick)`, which yields rows (docs/reference/benchmarks.md)."""
ON_CUDA = {"decoding": "decoding_short"}
"""Modules that replace others on a GPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks, print one JSON object per line, and save each benchmark's lines after it has finished."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="run only this one; may be repeated")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="put the lines into FILE; they replace earlier ones of the device"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes, few repeats: check that everything runs, in a minute"
    )
    given = parser.parse_args(arguments)
    device = pick_device(given.device)
    header = machine.describe(device, given.quick)
    print(json.dumps(header), flush=True)
    for name in given.only or BENCHMARKS:
        rows = []
        for row in measure(name, device.type, given.quick, asked_for=bool(given.only)):
            print(json.dumps(row), flush=True)
            rows.append(row)
        if given.save is not None:
            saved.replace_rows(given.save, header, name, rows)
    return 0


def measure(name: str, device: str, quick: bool, *, asked_for: bool = True) -> Iterator[dict[str, Any]]:
    """The rows of one benchmark, each with the name of its module. `asked_for`: chosen by name, so that it may take long."""
    module = ON_CUDA.get(name, name) if device == "cuda" else name
    if module == "decoding":  # needs stored runs, for which there is no tiny setting
        rows = iter([{"benchmark": name, "skipped": "has no quick form"}]) if quick else _run(module)(device, asked_for)
    else:
        rows = _run(module)(device, quick)
    for row in rows:
        yield {"module": name, **row}


def _run(module: str) -> Any:
    return importlib.import_module(f"benchmarks.{module}").run


if __name__ == "__main__":
    sys.exit(main())
