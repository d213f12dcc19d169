"""Stored training: from a configuration to a run folder, and resumption of a run that was stopped or killed at any moment.

session.py writes the folder of a run; trainer.py schedules the observers after each step.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from filelock import BaseFileLock

from playground.config import RunConfig
from playground.model.parameters import count_parameters
from playground.probes.catalogue import find_probe
from playground.probes.registry import check_probes
from playground.running.base import describe_base, open_base
from playground.running.cores import threads
from playground.running.distributed_runs import check_shared, on_all_processes, work_on
from playground.running.environment import describe_device, environment, matmul_rate, pick_device
from playground.running.reporter import Reporter, Silent
from playground.running.session import NonFiniteLoss, Session
from playground.runs.checkpoint import tidy
from playground.runs.creation import make_folder, remove_unfinished, run_folder
from playground.runs.errors import RunError
from playground.runs.lock import run_lock
from playground.runs.record import FORMAT, RunRecord, default_runs_dir, this_process
from playground.runs.store import Run, read_record
from playground.runs.writing import remove_temporaries
from playground.training.memory import check_memory
from playground.training.objectives.registry import objective_of, with_objective
from playground.training.process_group import current_process_group
from tasks.base import Task
from tasks.config import TaskConfig
from tasks.registry import make_task
from tasks.text_files import expand

__all__ = ["NonFiniteLoss", "new_run_id", "resume", "train"]


@on_all_processes
def train(
    config: RunConfig,
    runs_dir: Path | str | None = None,
    *,
    run_id: str | None = None,
    reporter: Reporter | None = None,
    should_stop: Callable[[], str] = lambda: "",
) -> Run:
    """Train one model and store the run in `runs_dir/<id>` (by default in the folder of `default_runs_dir`).

    `should_stop()` is called before every step; a non-empty result stops the run with that reason, and the run can resume.
    Raises NonFiniteLoss if the loss diverges (the run is stored as failed), ValueError for a configuration that task, model or
    objective refuses, TooLarge if the training does not fit into memory, and RunError if a run with this id exists or its base
    cannot be used (see open_base).
    """
    folder = Path(default_runs_dir() if runs_dir is None else runs_dir)
    session, lock = make_session(config, folder, run_id, reporter or Silent())
    with lock:
        return work_on(session).run(should_stop)[0]


@on_all_processes
def resume(run: Run, *, reporter: Reporter | None = None, should_stop: Callable[[], str] = lambda: "") -> Run:
    """Continue a run that was stopped, killed or failed, from its newest undamaged checkpoint.

    On the CPU, with an equal number of threads, the result is bitwise equal to that of an uninterrupted run.
    Raises RunError if the run is finished or still training, if its checkpoint comes from another kind of device, if the text
    that its task reads has changed (`load_run(path, text=...)` gives the path of a moved text), if its configuration is not the
    one recorded in run.json, or if all its checkpoints are damaged. The folder of a refused run keeps its results unchanged.
    """
    with run_lock(run.path):
        return work_on(resume_session(run, reporter or Silent())).run(should_stop)[0]


def make_session(
    config: RunConfig, folder: Path, run_id: str | None, reporter: Reporter, *, replicas: int = 1
) -> tuple[Session, BaseFileLock]:
    """Create a run with its folder; returns its session, ready for training, and its lock, which is held.

    `replicas` is the number of runs that train side by side, for the record. Raises TypeError for a `config` that is no
    RunConfig, and the errors of `train` except NonFiniteLoss.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config is {config!r}; write a RunConfig, such as make_config('induction-cpu')")
    check_shared(config)
    group = current_process_group()
    config = dataclasses.replace(config, task=with_whole_path(config.task))
    config = with_objective(config, processes=group.size if group else 1)
    for name in config.train.probes:
        find_probe(name)
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    device = pick_device(config.train.device)
    check_memory(config, task, device, processes=group.size if group else 1)
    check_probes(objective_of(config.train).fitting(config.train.probes), task, config.model.n_future)
    base = open_base(config, folder)
    if base is not None:
        config = dataclasses.replace(config, base=describe_base(base))
    path = run_folder(folder, run_id or new_run_id(config, folder))
    record = dataclasses.replace(_new_record(config, task, path.name, device, base), replicas=replicas)
    record, lock = make_folder(path, config, record, task)
    return Session(path, config, task, record, device, reporter), lock


def resume_session(run: Run, reporter: Reporter, *, replicas: int = 1) -> Session:
    """Session of a run that was stopped, killed or failed, ready to resume. The caller holds the run's lock.

    Temporary and unfinished files of killed processes are removed. Raises RunError as `resume` does, ValueError for a device
    that this machine does not have.
    """
    record = read_record(run.path)
    if record.status == "finished":
        raise RunError(f"run {run.id} is finished; there is nothing to resume")
    run = Run(run.path, record, text=run.text)
    device = resumed_device(run)
    record = dataclasses.replace(record, status="running", reason="", replicas=replicas, processes=1, **this_process())
    remove_unfinished(run.path.parent)
    tidy(run.path / "checkpoints")
    for folder in (run.path, run.path / "probes"):
        remove_temporaries(folder)
    session = Session(run.path, run.config, run.task, record, device, reporter, fresh=False)
    session.text = run.text
    return session


def resumed_device(run: Run) -> torch.device:
    """The device on which a run resumes. Raises ValueError if its configuration names a kind that this machine lacks."""
    return pick_device(run.config.train.device, f"resume run {run.id} on a machine that has one")


def new_run_id(config: RunConfig, runs_dir: Path, taken: Collection[str] = ()) -> str:
    """A free run id: label and hash of the configuration, with a number after them from the second run on."""
    base = f"{config.label()}-{config.hash()}"
    number, name = 1, base
    while (runs_dir / name).exists() or name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def with_whole_path(task: TaskConfig) -> TaskConfig:
    """The task configuration with an absolute path, if it has a path, so that it does not depend on the working directory."""
    path = getattr(task, "path", None)
    return task if path is None else dataclasses.replace(task, path=os.path.abspath(expand(path)))  # noqa: PTH100 (no links)


def _data_hash(task: Task) -> str:
    """Fingerprint of the text that a task reads; empty for tasks that read no text."""
    return getattr(task, "data_hash", "")


def _new_record(config: RunConfig, task: Task, run: str, device: torch.device, base: Run | None) -> RunRecord:
    """The first content of run.json; `run` is the run's id."""
    counts = count_parameters(config.model)
    parts = ("embedding", "trunk", "future_heads", "final_norm", "unembedding", "total", "non_embedding", "next_token")
    n_threads = threads(config.train.threads)
    stands_on = {"base": base.id, "base_config_hash": base.config.hash(), "base_step": base.record.step} if base else {}
    return RunRecord(
        run=run,
        format=FORMAT,
        status="running",
        task=config.task.name,
        preset=config.preset,
        n_future=config.model.n_future,
        control=config.model.control,
        future_heads=config.model.future_heads,
        seed=config.seed,
        config_hash=config.hash(),
        steps=config.steps,
        created=time.time(),
        parameters={part: getattr(counts, part) for part in parts},
        next_token_depth=config.model.next_token_depth,
        threads=n_threads,
        device=describe_device(device, n_threads),
        matmul_flops=matmul_rate(device, n_threads),
        data_hash=_data_hash(task),
        **stands_on,
        **this_process(),
        **environment(),
    )
