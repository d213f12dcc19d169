"""Decoding on a GPU in three minutes: `benchmarks.decoding_gpu` with n = 4 and one minute of training.

Longer trainings, n = 8 and other types of future heads: `python -m benchmarks.decoding_gpu`.
"""

import sysconfig
from collections.abc import Iterator

from benchmarks import decoding_gpu
from benchmarks.timing import Row

SEED, N_FUTURE, TARGET = 0, 4, 3.05
"""TARGET is the paper's speed-up for code and n = 4 (Gloeckle et al. 2024, 2404.19737)."""
TRAIN_SECONDS = 60


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """A line for each batch and kind of drafts."""
    if device != "cuda":
        yield {"benchmark": "decoding", "skipped": "trains the 100M size, which needs a GPU"}
        return
    size, seconds = ("1M", 30) if quick else ("100M", TRAIN_SECONDS)
    config = decoding_gpu.config_of(size, N_FUTURE, "hydra", sysconfig.get_paths()["purelib"], SEED)
    model, task, trained = decoding_gpu.train(config, seconds)
    yield {"benchmark": "decoding", "size": size, "n_future": N_FUTURE, "seed": SEED, "trained": trained}
    for row in decoding_gpu.measure(model.eval(), task, N_FUTURE):
        if "speedup" not in row:
            continue
        low, high = row.pop("spread")
        yield {
            "benchmark": "decoding",
            "size": size,
            "n_future": N_FUTURE,
            "seed": SEED,
            "repeats": decoding_gpu.REPEATS,
            "ratio": row.pop("speedup"),
            "ratio_lowest": low,
            "ratio_highest": high,
            "target": TARGET,
            "target_is": "at least",
            **row,
        }
