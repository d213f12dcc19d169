"""Find the stored run of each training of a study, by the contents of its configuration. Needs no torch.

Runs in float32 (CPU) and bfloat16 (GPU) never mix within a study: the precision that most of its finished runs have is taken,
or the one that is asked for.
"""

import dataclasses
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from playground.analysis.groups import experiment_of, precision_of
from playground.config import RunConfig
from playground.runs.config import read_config_values
from playground.runs.errors import RunError
from playground.runs.store import Run

State = Literal["missing", "running", "finished", "failed"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a study, and the run that is it."""

    cell: int
    """Index in `Study.cells`."""
    arm: str
    seed: int
    rate: float
    sweep: bool
    """True for a training that only helps to choose a learning rate."""
    config: RunConfig
    state: State = "missing"
    run: Run | None = None
    reason: str = ""
    """Why it failed."""


STORED = ("probes", "probe_points", "eval_every")
"""Fields that change nothing learned and decide what can be read from a run; a run that differs in one does not count."""
RANK: dict[State, int] = {"finished": 3, "running": 2, "missing": 1, "failed": 0}


def states_of(trainings: Sequence[Training], runs: Sequence[Run], precision: str = "") -> list[Training]:
    """The trainings, each with the state and the run that was found for it; the best one where there are several.

    A run that was stopped or interrupted counts as missing, and is given: it can go on.
    """
    wanted = {_identity(one.config.to_dict()) for one in trainings}
    found: dict[str, dict[Hashable, tuple[State, Run]]] = {}
    for run in sorted(runs, key=lambda run: run.record.created):
        try:
            identity = _identity(read_config_values(run.path, run.record))
        except RunError:
            continue  # a damaged run does not count
        if identity not in wanted:
            continue
        state, of_precision = _state(run), found.setdefault(precision_of(run.record), {})
        known = of_precision.get(identity)
        if known is None or RANK[state] >= RANK[known[0]]:
            of_precision[identity] = (state, run)
    chosen = found.get(precision or _most_finished(found), {})
    return [_with_run(one, chosen.get(_identity(one.config.to_dict()))) for one in trainings]


def _most_finished(found: Mapping[str, Mapping[Hashable, tuple[State, Run]]]) -> str:
    counts = Counter({name: sum(state == "finished" for state, _ in runs.values()) for name, runs in found.items()})
    return max(counts, key=lambda name: (counts[name], len(found[name])), default="")


def _with_run(training: Training, found: tuple[State, Run] | None) -> Training:
    if found is None:
        return training
    state, run = found
    return dataclasses.replace(training, state=state, run=run, reason=run.record.reason if state == "failed" else "")


def _state(run: Run) -> State:
    state = run.record.state
    return state if state in ("finished", "running", "failed") else "missing"


def _identity(values: Mapping[str, Any]) -> Hashable:
    experiment = experiment_of(values)
    return experiment.identity, values["seed"], *(_plain(experiment.values.get(f"train.{name}")) for name in STORED)


def _plain(value: Any) -> Hashable:
    return tuple(value) if isinstance(value, list) else value
