"""CPU cores that this process may use, and their division among trainings. Needs no torch."""

import os

from playground.torchrun import here, launched


def cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(wanted: int | None, side_by_side: int = 1) -> int:
    """CPU threads of one training: `wanted`, or its share of the cores among `side_by_side` trainings.

    A share is at most OMP_NUM_THREADS, as everywhere in torch. Under torchrun the processes of this machine share the cores,
    and the variable is ignored, because torchrun itself sets it to 1.
    """
    if wanted is not None:
        return wanted
    share = max(1, cores() // (side_by_side * here()))
    return share if launched() else min(share, _openmp_threads() or share)


def _openmp_threads() -> int:
    """Value of OMP_NUM_THREADS, the outermost of several levels (`4,2`); 0 if it is not set or invalid."""
    outermost = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(outermost) if outermost.isdecimal() else 0
