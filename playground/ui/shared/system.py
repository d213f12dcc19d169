"""Device use of runs: tokens/s, model FLOP/s and the share of the device's matrix rate, memory. Needs no torch.

Rates are of training alone, without evaluations, checkpoints and probes. MFU (model FLOPs utilisation, Chowdhery et
al. 2022, 2204.02311) is the model FLOP/s of a process over the FLOP/s of a large matrix product measured on its device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from playground.analysis.compare import flops_per_token
from playground.analysis.curves import throughput
from playground.analysis.groups import Group
from playground.runs.store import Run
from playground.text import visible
from playground.ui.shared.remembered import remembered
from playground.ui.shared.text import MOST
from playground.ui.shared.words import STATES, short

RECENT = 5
"""Rows of training losses that the column `now` is computed from."""
UNKNOWN = "-"


@dataclass(frozen=True, kw_only=True)
class SystemRow:
    """Device use of one run. None: unknown."""

    run: str
    model: str
    """Label of its group."""
    seed: int
    status: str
    device: str
    threads: int
    """CPU threads of the process."""
    replicas: int
    """Number of models that its process trained side by side."""
    tokens_per_second: float | None
    """Input tokens per second of this model: the median over all rows of training losses."""
    now: float | None
    """Input tokens per second of this model: the median over the last `RECENT` rows."""
    flops: float | None
    """Model FLOP/s of the whole process: tokens/s, times FLOPs per token, times replicas."""
    matmul_flops: float | None
    """FLOP/s of a large matrix product on the device."""
    peak_memory: int | None
    """Bytes, for the whole process."""
    seconds: float
    """Seconds of training."""
    probe_seconds: float

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilisation, from 0 to 1."""
        return self.flops / self.matmul_flops if self.flops is not None and self.matmul_flops else None


def system_row(run: Run, group: Group) -> SystemRow:
    """The row of one run, finished or not; during training its FLOP/s are those of the last rows."""
    record = run.record
    rate, now, per_token = _measured(run)
    used = now if record.state == "running" and now is not None else rate
    return SystemRow(
        run=run.id,
        model=group.label,
        seed=record.seed,
        status=record.state,
        device=record.device,
        threads=record.threads,
        replicas=record.replicas,
        tokens_per_second=rate,
        now=now,
        flops=None if used is None or per_token is None else used * per_token * record.replicas,
        matmul_flops=record.matmul_flops or None,
        peak_memory=record.peak_memory or None,
        seconds=record.seconds,
        probe_seconds=record.probe_seconds,
    )


@remembered
def _measured(run: Run) -> tuple[float | None, float | None, float | None]:
    """Tokens per second over the run and over its last rows, and FLOPs per token."""
    rates = throughput(run.columns)
    recent = rates[-RECENT:]
    rate = float(np.nanmedian(rates)) if np.isfinite(rates).any() else run.record.tokens_per_second or None
    now = float(np.nanmedian(recent)) if np.isfinite(recent).any() else None
    return rate, now, flops_per_token(run.values)


def system_table(rows: Sequence[SystemRow], *, live: bool = False) -> pd.DataFrame:
    """The table on a page, one row per run, without columns that no run has. `live`: fewer columns, with the speed of now."""
    known = {
        "model": [visible(row.model, MOST) for row in rows],
        "seed": [row.seed for row in rows],
        "status": [STATES[row.status] for row in rows],
        "now": [rate_text(row.now if row.status == "running" else None) for row in rows],
        "speed": [rate_text(row.tokens_per_second) for row in rows],
        "model FLOP/s": [UNKNOWN if row.flops is None else flops_text(row.flops) for row in rows],
        "MFU": [mfu_text(row) for row in rows],
        "peak memory": [UNKNOWN if row.peak_memory is None else memory_text(row.peak_memory) for row in rows],
        "device": [visible(row.device, MOST) for row in rows],
        "threads": [row.threads for row in rows],
        "models a process": [row.replicas for row in rows],
        "run": [visible(row.run, MOST) for row in rows],
    }
    left_out = {"now"}
    if live:
        training = any(row.status == "running" for row in rows)
        left_out = {"speed" if training else "now", "status", "model FLOP/s", "threads", "run"}
    empty = {name for name, values in known.items() if all(value == UNKNOWN for value in values)}
    return pd.DataFrame({name: values for name, values in known.items() if name not in left_out | empty})


def system_csv(rows: Sequence[SystemRow]) -> str:
    """All numbers as CSV, in base units: tokens/s, FLOP/s, bytes, seconds; `mfu` is a share."""
    return pd.DataFrame([asdict(row) | {"mfu": row.mfu} for row in rows]).to_csv(index=False)


def together(rows: Sequence[SystemRow]) -> float:
    """Tokens per second of all models in training together."""
    return sum(row.now or 0.0 for row in rows if row.status == "running")


def rows_of(runs: Sequence[Run], groups: Mapping[str, Group]) -> list[SystemRow]:
    """The rows of several runs, in their order."""
    return [system_row(run, groups[run.id]) for run in runs]


def rate_text(rate: float | None) -> str:
    """`16.1 k tokens/s`."""
    return UNKNOWN if rate is None else f"{short(rate)} tokens/s"


def flops_text(flops: float) -> str:
    """`86.1 GFLOP/s`.

    >>> flops_text(86.1e9), flops_text(7.42e14)
    ('86.1 GFLOP/s', '742 TFLOP/s')
    """
    return f"{flops / 1e12:.3g} TFLOP/s" if flops >= 0.9995e12 else f"{short(flops)}FLOP/s"


def mfu_text(row: SystemRow) -> str:
    """`41% of 210 GFLOP/s`."""
    if row.mfu is None or row.matmul_flops is None:
        return UNKNOWN
    percent = 100 * row.mfu
    return f"{f'{percent:.0f}' if percent >= 10 else f'{percent:.2g}'}% of {flops_text(row.matmul_flops)}"


def memory_text(size: int) -> str:
    """`612 MiB`, `3.2 GiB`.

    >>> memory_text(612 * 2**20), memory_text(3_400_000_000)
    ('612 MiB', '3.17 GiB')
    """
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
