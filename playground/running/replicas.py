"""Replicas: several trainings of one shape, with different seeds or learning rates, at once.

On a GPU, which one small model does not fill, they are stacked and trained side by side in this process. On a CPU stacking is
not faster (docs/decisions/0012-replicas.md): there each is trained in a separate process, as many at a time as there are cores.
In both cases each is stored as a separate run, equal up to rounding to one trained alone.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from playground.config import OptimConfig, RunConfig
from playground.running.environment import pick_device
from playground.running.fitting import fitting_groups, fitting_processes
from playground.running.jobs import Starter, choose_ids, choosing_ids
from playground.running.reporter import Reporter, Silent
from playground.running.runner import make_session, resume_session, resumed_device, with_whole_path
from playground.running.scheduler import scheduled
from playground.running.session import NonFiniteLoss, Session
from playground.running.stopping import Interrupted
from playground.running.trainer import Trainer
from playground.runs.creation import run_folder
from playground.runs.lock import run_lock
from playground.runs.record import default_runs_dir
from playground.runs.store import Run
from playground.torchrun import launched
from playground.training.memory import check_memory
from playground.training.objectives.registry import objective_of, with_objective
from tasks.registry import make_task


def train_many(
    configs: Sequence[RunConfig],
    runs_dir: Path | str | None = None,
    *,
    run_ids: Sequence[str] | None = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], str] = lambda: "",
    stacked: bool | None = None,
    by: Starter = "Python",
) -> list[Run]:
    """Train each configuration, with the results of `train`; returns the runs in the order of the configurations.

    Stacked (the default on a GPU), configurations that differ only in seed and optimizer are trained together in this process,
    one group after another; groups that do not fit into memory are split. Otherwise each is trained in a separate process, as
    many at a time as there are cores for: they are a job (playground/running/jobs.py) started by `by`, which the app's Train
    page shows. A training that diverges fails alone: its run gets status `failed`. `should_stop` stops all; trainings that
    never began are not in the returned list.
    Raises ValueError for an impossible configuration and under torchrun, TooLarge for a configuration that cannot fit into
    memory, and RunError for a taken id, before anything starts.
    """
    _refuse_torchrun()
    reporter = reporter or Silent()
    folder = Path(default_runs_dir() if runs_dir is None else runs_dir)
    configs = [with_objective(dataclasses.replace(config, task=with_whole_path(config.task))) for config in configs]
    alike = _alike(configs)
    resolved = _resolved(configs, alike)
    if run_ids is not None:
        _check_ids(run_ids, len(configs), folder)
    if not configs:
        return []
    on_cuda = [pick_device(configs[places[0]].train.device).type == "cuda" for places in alike]
    stacks = [places for places, cuda in zip(alike, on_cuda, strict=True) if (cuda if stacked is None else stacked)]
    others = sorted(place for places in alike if places not in stacks for place in places)
    runs: list[Run] = []
    with contextlib.ExitStack() as jobs:
        with choosing_ids(folder) as planned:
            ids = choose_ids(resolved, folder, planned) if run_ids is None else list(run_ids)
            scheduler = None
            if others:
                most = fitting_processes([resolved[place] for place in others])
                parts = [configs[place] for place in others], [ids[place] for place in others]
                scheduler = jobs.enter_context(scheduled(*parts, folder, reporter, by=by, most=most))
        try:
            for places in stacks:
                # A generator: the free memory is measured when a group starts, after earlier groups have released theirs.
                for part in fitting_groups([resolved[place] for place in places], reporter):
                    if should_stop():
                        break
                    group = [places[index] for index in part]
                    chosen = [configs[place] for place in group], [ids[place] for place in group]
                    runs += _train_stacked(*chosen, folder, reporter, should_stop)
            if scheduler is not None and not should_stop():
                scheduler.work(should_stop)
        except Interrupted:  # during the preparation of a later group
            if not runs:
                raise
        begun = {run.id for run in runs} | (scheduler.begun if scheduler is not None else set())
    return [Run(folder / name) for name in ids if name in begun]


def _check_ids(wanted: Sequence[str], trainings: int, folder: Path) -> None:
    """Raises ValueError unless there is one id for each training, and RunError for one that is taken."""
    if len(set(wanted)) != trainings:
        raise ValueError(f"{trainings} trainings and {len(set(wanted))} different run ids; write one id for each")
    for name in wanted:
        run_folder(folder, name)


def resume_many(
    runs: Sequence[Run], *, reporter: Reporter | None = None, should_stop: Callable[[], str] = lambda: ""
) -> list[Run]:
    """Resume several runs; runs of one shape at equal steps are trained side by side, on any device.

    Groups that do not fit into memory are split. Raises RunError for a run that cannot be resumed (see `resume`), and
    ValueError under torchrun, before anything starts.
    """
    _refuse_torchrun()
    reporter = reporter or Silent()
    for run in runs:
        resumed_device(run)
    groups = [
        [alike[place] for place in part]
        for alike in _alike([run.config for run in runs], [_last_step(run) for run in runs])
        for part in fitting_groups([runs[place].config for place in alike], reporter)
    ]
    ended: list[int] = []
    with contextlib.ExitStack() as locks:
        for run in runs:  # all locks first: nothing is resumed if one of the runs is in use
            locks.enter_context(run_lock(run.path))
        sessions = {
            place: resume_session(runs[place], reporter, replicas=len(group)) for group in groups for place in group
        }
        for group in groups:
            if should_stop():
                break
            try:
                Trainer([sessions[place] for place in group]).run(should_stop)
            except NonFiniteLoss:  # raised when all of a group have failed; their records have the reason
                pass
            except Interrupted:  # during the preparation of a later group
                if not ended:
                    raise
                break
            ended += group
    return [Run(runs[place].path) for place in sorted(ended)]


def _refuse_torchrun() -> None:
    if launched():
        raise ValueError("several trainings need a single process; train one, or start without torchrun")


def shape_of(config: RunConfig) -> str:
    """A text that is equal for configurations that can be trained side by side: all of it except seed and optimizer.

    >>> from playground.running.presets import make_config
    >>> shape_of(make_config("induction-cpu", seed=1)) == shape_of(make_config("induction-cpu", seed=2))
    True
    >>> shape_of(make_config("induction-cpu", n_future=1)) == shape_of(make_config("induction-cpu", n_future=2))
    False
    """
    alike = dataclasses.replace(config, seed=0, preset=None, optim=OptimConfig(), base=None)
    on_base = "" if config.base is None else f" base {config.base.run}"
    return json.dumps(alike.to_dict(), sort_keys=True) + on_base


def _alike(configs: Sequence[RunConfig], steps: Sequence[int] | None = None) -> list[list[int]]:
    """Groups of indices of configurations that can be trained side by side."""
    groups: dict[tuple[str, int, int], list[int]] = {}
    for place, config in enumerate(configs):
        step = 0 if steps is None else steps[place]
        alone = place if "replicas" in objective_of(config.train).cannot else -1
        groups.setdefault((shape_of(config), step, alone), []).append(place)
    return list(groups.values())


def _resolved(configs: Sequence[RunConfig], alike: Sequence[list[int]]) -> list[RunConfig]:
    """The configurations with d_vocab and n_ctx of their tasks. Raises TooLarge for one that cannot fit into memory."""
    found = list(configs)
    for places in alike:
        first = configs[places[0]]
        task = make_task(first.task)
        check_memory(first, task, pick_device(first.train.device))
        for place in places:
            found[place] = configs[place].resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    return found


def _train_stacked(
    configs: list[RunConfig], ids: list[str], folder: Path, reporter: Reporter, should_stop: Callable[[], str]
) -> list[Run]:
    paths: list[Path] = []
    with contextlib.ExitStack() as locks, contextlib.suppress(NonFiniteLoss):
        sessions: list[Session] = []
        for config, name in zip(configs, ids, strict=True):
            session, lock = make_session(config, folder, name, reporter, replicas=len(configs))
            locks.enter_context(lock)
            sessions.append(session)
            paths.append(session.path)
        Trainer(sessions).run(should_stop)
    return [Run(path) for path in paths]


def _last_step(run: Run) -> int:
    return run.checkpoints[-1] if run.checkpoints else 0
