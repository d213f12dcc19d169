"""Replicas: several trainings of one shape, with different seeds or learning rates, at once.

On a GPU, which one small model does not fill, they are stacked and trained side by side in this process. On a CPU stacking is
not faster (docs/decisions/0012-replicas.md): there each is trained in a separate process, as many at a time as there are cores.
In both cases each is stored as a separate run, equal up to rounding to one trained alone.
"""

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from playground.config import OptimConfig, RunConfig
from playground.running.environment import pick_device
from playground.running.processes import train_in_processes
from playground.running.reporter import Reporter, Silent
from playground.running.runner import make_session, new_run_id, resume_session, resumed_device, with_whole_path
from playground.running.session import NonFiniteLoss, Session
from playground.running.stopping import Interrupted
from playground.running.trainer import Trainer
from playground.runs.creation import run_folder
from playground.runs.lock import run_lock
from playground.runs.record import default_runs_dir
from playground.runs.store import Run
from playground.torchrun import launched
from playground.training.memory import TooLarge, check_memory, free_memory, least_bytes, training_bytes
from playground.training.objectives.registry import objective_of, with_objective
from tasks.registry import make_task

Way = Callable[[list[RunConfig], list[str], Path, Reporter, Callable[[], str]], list[Run]]
"""A function that trains configurations under their ids in a folder, and returns the runs that began."""
USABLE = 0.9
"""Share of the free memory that replicas may take."""


def train_many(
    configs: Sequence[RunConfig],
    runs_dir: Path | str | None = None,
    *,
    run_ids: Sequence[str] | None = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], str] = lambda: "",
    stacked: bool | None = None,
) -> list[Run]:
    """Train each configuration, with the results of `train`; returns the runs in the order of the configurations.

    Stacked (the default on a GPU), configurations that differ only in seed and optimizer are trained together in this process,
    one group after another; groups that do not fit into memory are split. Otherwise each is trained in a separate process, as
    many at a time as there are cores for. A training that diverges fails alone: its run gets status `failed`. `should_stop`
    stops all; trainings that never began are not in the returned list.
    Raises ValueError for an impossible configuration and under torchrun, TooLarge for a configuration that cannot fit into
    memory, and RunError for a taken id, before anything starts.
    """
    _refuse_torchrun()
    reporter = reporter or Silent()
    folder = Path(default_runs_dir() if runs_dir is None else runs_dir)
    configs = [with_objective(dataclasses.replace(config, task=with_whole_path(config.task))) for config in configs]
    alike = _alike(configs)
    resolved = _resolved(configs, alike)
    ids = _ids(resolved, folder, run_ids)
    on_cuda = [pick_device(configs[places[0]].train.device).type == "cuda" for places in alike]
    stacks = [places for places, cuda in zip(alike, on_cuda, strict=True) if (cuda if stacked is None else stacked)]
    others = sorted(place for places in alike if places not in stacks for place in places)
    done: dict[str, Run] = {}
    try:
        for way, places in _parts(resolved, stacks, others, reporter):
            if should_stop():
                break
            group, names = [configs[place] for place in places], [ids[place] for place in places]
            done |= {run.id: run for run in way(group, names, folder, reporter, should_stop)}
    except Interrupted:  # during the preparation of a later group
        if not done:
            raise
    return [done[name] for name in ids if name in done]


def _parts(
    configs: Sequence[RunConfig], stacks: Sequence[list[int]], others: list[int], reporter: Reporter
) -> Iterator[tuple[Way, list[int]]]:
    """Parts to train one after another: a training function and indices of configurations.

    A generator, because the free memory is measured when a part starts, after earlier parts have released theirs.
    """
    for places in stacks:
        for part in fitting_groups([configs[place] for place in places], reporter):
            yield _train_stacked, [places[index] for index in part]
    if others:
        most = fitting_processes([configs[place] for place in others])
        yield functools.partial(train_in_processes, most=most), others


def fitting_processes(configs: Sequence[RunConfig], free: int | None = None) -> int:
    """Most trainings of resolved configurations that fit into memory at once; at least one."""
    device = pick_device(configs[0].train.device)
    free = free_memory(device) if free is None else free
    largest = max(sum(least_bytes(config, half=device.type == "cuda")) for config in configs)
    return max(1, int(USABLE * free) // max(1, largest))


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


def _ids(configs: Sequence[RunConfig], folder: Path, wanted: Sequence[str] | None) -> list[str]:
    if wanted is not None:
        if len(set(wanted)) != len(configs):
            raise ValueError(
                f"{len(configs)} trainings and {len(set(wanted))} different run ids; write one id for each"
            )
        for name in wanted:
            run_folder(folder, name)
        return list(wanted)
    ids: dict[str, None] = {}  # in order
    for config in configs:
        ids[new_run_id(config, folder, ids)] = None
    return list(ids)


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


def fitting_groups(configs: Sequence[RunConfig], reporter: Reporter, free: int | None = None) -> Iterator[range]:
    """Indices of the configurations, split into parts that fit into the device's memory.

    `free` is the free memory in bytes, measured by default. Raises TooLarge, with both numbers, when not even one fits.
    """
    device = pick_device(configs[0].train.device)
    task = make_task(configs[0].task)
    free = int(USABLE * (free_memory(device) if free is None else free))
    check_memory(configs[0], task, device, free=free)
    needed = training_bytes(configs[0], task, device)
    if needed > free:
        raise TooLarge(
            f"one training needs about {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free on {device}; "
            "train with a smaller --batch-size, with --accumulate 2 or with --recompute"
        )
    n_groups = math.ceil(len(configs) / (free // needed))
    size = math.ceil(len(configs) / n_groups)
    if n_groups > 1:
        reporter.note(
            f"{len(configs)} trainings need about {len(configs) * needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free: "
            f"they are trained {size} at a time"
        )
    for start in range(0, len(configs), size):
        yield range(start, min(start + size, len(configs)))


def _last_step(run: Run) -> int:
    return run.checkpoints[-1] if run.checkpoints else 0
