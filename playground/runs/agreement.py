"""Check that the rows of metrics.jsonl belong to the run: rows of another run, or missing rows, are reported."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.runs.metrics import Metrics
from playground.runs.reading import sha256_of
from playground.runs.record import RunRecord

_LOSS = re.compile(r"(?:test_)?loss_([0-9]+)")


def rows_problem(path: Path, metrics: Metrics, record: RunRecord, config: Mapping[str, Any]) -> str:
    """The first contradiction between `metrics.jsonl` (at `path`), run.json and config.json; empty if there is none.

    Compared are steps, the number of offsets, the last step of the rows, and for a finished run the SHA-256. `config` holds
    plain values.
    """
    steps = metrics.columns["step"]
    last = int(steps[-1]) if len(steps) else -1
    if last > record.steps:
        return f"{path} goes to step {last}, and the run has {record.steps}; is it another run's?"
    offsets = {int(found[1]) for name in metrics.columns if (found := _LOSS.fullmatch(name))}
    if offsets and max(offsets) != record.n_future:
        return (
            f"{path} has losses of {max(offsets)} offsets, and the run predicts {record.n_future}; is it another run's?"
        )
    train = config["train"]
    if record.step - last > max(train["log_every"], train["eval_every"]):
        missing = "is missing or has no rows" if last < 0 else f"ends at step {last}"
        return f"{path} {missing}, and run.json says step {record.step}; lines are lost"
    if record.metrics_sha256 and not metrics.bad and sha256_of(path) != record.metrics_sha256:
        return f"{path} has changed since the run finished: its SHA-256 differs from the one in run.json"
    return ""
