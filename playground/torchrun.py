"""What torchrun tells a process about the training that it belongs to, in environment variables. Needs no torch."""

import os


def launched() -> bool:
    """Whether torchrun started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def here() -> int:
    """How many processes of this training there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if launched() else 1
