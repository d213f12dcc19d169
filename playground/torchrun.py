"""The environment variables that torchrun sets in each process of a training. Needs no torch."""

import os


def launched() -> bool:
    """True if torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def here() -> int:
    """Number of processes of this training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1
