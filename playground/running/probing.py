"""Probes on stored runs: load a stored model, measure, and store the results in the run's folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from playground.probes.registry import make_probes
from playground.results import Result
from playground.running.environment import pick_device
from playground.runs.errors import RunError
from playground.runs.lock import probing_lock
from playground.runs.probes import insert_result
from playground.runs.store import Run
from playground.training.objectives.registry import objective_of


@dataclass(frozen=True, kw_only=True)
class Probed:
    """The result of one probe at one stored step."""

    run: str
    probe: str
    step: int
    result: Result


def store_measured(path: Path, name: str, result: Result, *, step: int, tokens: int) -> None:
    """Store a result that was measured elsewhere, such as on a page. Raises RunError for a run in training or being probed."""
    with probing_lock(path):
        insert_result(path, name, result, step=step, tokens=tokens)


def probe_run(
    run: Run, names: Sequence[str], steps: Sequence[int] | None = None, *, device: str = "auto"
) -> Iterator[Probed]:
    """Run the named probes on the models stored at `steps` (by default the last one), and store their results in the run.

    Results are stored and yielded one by one. Raises ValueError for an unknown probe and for one that does not suit the
    run's objective, RunError for a step that is not stored and for a run that is being trained or probed.
    """
    objective = objective_of(run.config.train)
    for name in names:
        objective.check_probe(name)
    stored = run.checkpoints
    if not stored:
        raise RunError(f"run {run.id} has no checkpoint yet")
    probes = make_probes(names, run.task, run.config.model.n_future)
    where = pick_device(device)
    per_step = run.config.train.batch_size * run.task.n_ctx
    with probing_lock(run.path):
        for step in stored[-1:] if steps is None else steps:
            model = run.model(step).to(where)
            for name, measure in probes.items():
                result = measure(model)
                insert_result(run.path, name, result, step=step, tokens=step * per_step)
                yield Probed(run=run.id, probe=name, step=step, result=result)
