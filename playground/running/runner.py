"""Training that is stored: a configuration in, a run folder out; killed at any moment, it goes on where it stood.

session.py writes a run's folder; trainer.py decides what happens after which step.
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
from playground.probes.registry import check_probes, find_probe
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
    """Train one model and store everything about it in `runs_dir/<id>` (by default in the folder of `default_runs_dir`).

    `should_stop()` is asked before every step; a non-empty answer stops the run with that reason, resumable.
    Raises NonFiniteLoss when the loss diverges (the run is stored as failed), ValueError for a configuration that the
    task or the model refuses, RunError when a run of that id exists already, or its base is none (open_base).
    """
    folder = Path(default_runs_dir() if runs_dir is None else runs_dir)
    session, lock = make_session(config, folder, run_id, reporter or Silent())
    with lock:
        return work_on(session).run(should_stop)[0]


@on_all_processes
def resume(run: Run, *, reporter: Reporter | None = None, should_stop: Callable[[], str] = lambda: "") -> Run:
    """Go on with a run that was stopped, killed or failed, from its last checkpoint.

    On the CPU, with the same number of threads, the result is the same to the last bit as without the interruption. A damaged
    checkpoint is passed over for the one before it.
    Raises RunError when the run is finished or still training, when its checkpoint comes from another kind of device, when
    the text that its task reads has changed (`load_run(path, text=...)` names one that was moved), when its configuration is
    another than run.json tells of, or when no checkpoint is whole. A run that is refused stays as it was.
    """
    with run_lock(run.path):
        return work_on(resume_session(run, reporter or Silent())).run(should_stop)[0]


def make_session(
    config: RunConfig, folder: Path, run_id: str | None, reporter: Reporter, *, replicas: int = 1
) -> tuple[Session, BaseFileLock]:
    """A run with its folder, ready to be trained, `replicas` of them side by side, and the lock of it, which is held.

    Errors as in `train`.
    """
    if not isinstance(config, RunConfig):
        raise TypeError(f"config is {config!r}; write a RunConfig, such as make_config('induction-cpu')")
    check_shared(config)
    config = dataclasses.replace(config, task=with_whole_path(config.task))
    for name in config.train.probes:
        find_probe(name)
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    device = pick_device(config.train.device)
    group = current_process_group()
    check_memory(config, task, device, processes=group.size if group else 1)
    check_probes(config.train.probes, task, config.model.n_future)
    base = open_base(config, folder)
    if base is not None:
        config = dataclasses.replace(config, base=describe_base(base))
    path = run_folder(folder, run_id or new_run_id(config, folder))
    record = dataclasses.replace(_new_record(config, task, path.name, device, base), replicas=replicas)
    record, lock = make_folder(path, config, record, task)
    return Session(path, config, task, record, device, reporter), lock


def resume_session(run: Run, reporter: Reporter, *, replicas: int = 1) -> Session:
    """A run that is locked and was stopped, killed or failed, ready to go on. Errors as in `resume`."""
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
    """The device that a run goes on with. Raises ValueError where there is none of the kind that it asks for."""
    return pick_device(run.config.train.device, f"resume run {run.id} on a machine that has one")


def new_run_id(config: RunConfig, runs_dir: Path, taken: Collection[str] = ()) -> str:
    """A readable id that is free: label and hash of the configuration, with a number behind it when trained again."""
    base = f"{config.label()}-{config.hash()}"
    number, name = 1, base
    while (runs_dir / name).exists() or name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def with_whole_path(task: TaskConfig) -> TaskConfig:
    """The configuration of a task that reads files, with a path that means the same from any folder."""
    path = getattr(task, "path", None)
    return task if path is None else dataclasses.replace(task, path=os.path.abspath(expand(path)))  # noqa: PTH100 (no links)


def _data_hash(task: Task) -> str:
    """What tells apart the texts of a task that reads files; empty for the others."""
    return getattr(task, "data_hash", "")


def _new_record(config: RunConfig, task: Task, run: str, device: torch.device, base: Run | None) -> RunRecord:
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
