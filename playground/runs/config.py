"""`config.json`: read, checked and compared with run.json.

`read_config_values` needs neither torch nor the run's task, so that runs of tasks that are not installed can be shown too.
`read_config` builds the complete RunConfig.
"""

from pathlib import Path
from typing import Any

from playground.config import ModelConfig, RunConfig
from playground.config.flops import steps_taken
from playground.config.stored import hash_values, read_values
from playground.runs.errors import Damaged, RunError
from playground.runs.reading import read_json
from playground.runs.record import RunRecord

FILE = "config.json"


def read_config_values(path: Path, record: RunRecord | None = None) -> dict[str, Any]:
    """The configuration in a run's folder as plain values, with every field of model, optimizer and training.

    Raises Absent, Denied or Damaged; Damaged also if it differs from `record`, the contents of run.json.
    """
    file = path / FILE
    try:
        values = read_values(read_json(file))
    except RunError:
        raise
    except ValueError as error:
        raise Damaged(f"{file} is damaged: {error}") from error
    if record is not None:
        try:
            steps = steps_taken(ModelConfig(**values["model"]), values["train"]["steps"])
        except ValueError as error:
            raise Damaged(f"{file} is damaged: {error}") from error
        _compare(values, steps, record, file)
    return values


def read_config(path: Path, record: RunRecord | None = None) -> RunConfig:
    """The configuration in a run's folder. Raises Absent, Denied or Damaged, the last also for an unknown task."""
    return config_of(path, read_config_values(path, record))


def config_of(path: Path, values: dict[str, Any]) -> RunConfig:
    """The complete configuration of the run in the folder `path` from its `read_config_values`. Raises Damaged for an unknown
    task."""
    try:
        return RunConfig.from_dict(values)
    except ValueError as error:
        raise Damaged(f"{path / FILE} cannot be used: {error}") from error


def _compare(values: dict[str, Any], steps: int, record: RunRecord, file: Path) -> None:
    told = {
        "task": (values["task"]["name"], record.task),
        "n_future": (values["model"]["n_future"], record.n_future),
        "control": (values["model"]["control"], record.control),
        "seed": (values["seed"], record.seed),
        "steps": (steps, record.steps),
        "preset": (values["preset"], record.preset),
        "hash": (hash_values(values), record.config_hash),
    }
    for name, (ours, theirs) in told.items():
        if ours != theirs:
            raise Damaged(
                f"{file} is not the configuration that this run was trained with: its {name} is {ours!r}, and run.json says "
                f"{theirs!r}; restore the file, or train again"
            )
