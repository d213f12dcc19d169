"""A stored run that several processes train, started by torchrun (docs/guides/several-gpus.md).

Rank 0 stores the run: it restores, writes, evaluates and probes as it would alone. The other processes write no files. They
receive the configuration, weights and optimizer state from rank 0, and train on their own rows of every step, drawn from a
stream of random numbers of their own.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, cast

import torch
from torch import Tensor

from playground.config import RunConfig
from playground.model.clamp import apply_clamp
from playground.model.transformer import MTPTransformer
from playground.running.environment import pick_device
from playground.running.session import Session
from playground.running.stopping import deferred
from playground.running.trainer import Due, Trainer, due
from playground.runs.store import TASK_FOLDER, Run
from playground.torchrun import launched
from playground.training.distributed import copy_from_first, put_together
from playground.training.loop import Member, TrainState, fit, start_state
from playground.training.process_group import (
    FAILED,
    GO_ON,
    STOP,
    ProcessFailed,
    ProcessGroup,
    current_process_group,
    joined,
    naming_lost_run,
)
from playground.training.sampler import Sampler
from tasks.base import Batch, seeded_generator, stream_seed
from tasks.registry import open_task

P = ParamSpec("P")


def on_all_processes(work: Callable[P, Run]) -> Callable[P, Run]:
    """Under torchrun rank 0 does the work and the other ranks follow; without torchrun the work is called as it is."""

    @functools.wraps(work)
    def each(*args: P.args, **options: P.kwargs) -> Run:
        if not launched():
            return work(*args, **options)
        with joined() as group:
            if group.rank == 0:
                return work(*args, **options)
            return follow(group, cast(Callable[[], str], options.get("should_stop", lambda: "")))

    return each


def work_on(session: Session) -> Trainer:
    """The trainer of one run, for this process alone or as rank 0 of several. Raises ValueError as check_shared does."""
    group = current_process_group()
    return Trainer([session]) if group is None else FirstProcess(session, group)


def check_shared(config: RunConfig) -> None:
    """Raises ValueError for what several processes cannot do: rows that do not divide evenly, clipping by a part's norm."""
    group, train = current_process_group(), config.train
    if group is not None and config.optim.clip_by != "all":
        raise ValueError(
            f"clip_by '{config.optim.clip_by}' is for one process; leave torchrun out, or write clip_by 'all'"
        )
    if group is not None and train.batch_size % (group.size * train.accumulate):
        parts = f" in accumulate={train.accumulate} parts each" if train.accumulate > 1 else ""
        raise ValueError(
            f"a batch of {train.batch_size} rows does not divide evenly among {group.size} processes{parts}; "
            f"write a batch_size that is a multiple of {group.size * train.accumulate}"
        )


@dataclass(frozen=True, kw_only=True)
class Start:
    """What rank 0 sends to the others before the first step."""

    path: Path
    config: RunConfig
    threads: int
    step: int
    samplers: dict[str, Tensor]
    """Counters of the samplers of the other ranks, by name."""
    data_hash: str
    """Fingerprint of the text that a task reads; empty for the others."""
    text: str | None
    """Where that text lies, if it was moved."""
    optimizer: dict[str, dict[str, tuple[torch.Size, torch.dtype]]]
    """Shapes and types of the optimizer's state, by parameter."""


class FirstProcess(Trainer):
    """The trainer of a run on rank 0."""

    def __init__(self, session: Session, group: ProcessGroup) -> None:
        check_shared(session.config)
        super().__init__([session])
        session.record = dataclasses.replace(session.record, processes=group.size)
        self.group, self.session = group, session
        self.whole: TrainState | None = None
        """With sharded parameters: the whole model and optimizer, for evaluation, probes and checkpoints."""

    def run(self, should_stop: Callable[[], str]) -> list[Run]:
        return super().run(functools.partial(_agreed, self.group, should_stop))

    def _begin(self) -> None:
        super()._begin()
        state = self.session.state
        optimizer = _by_name(state)
        start = Start(
            path=self.session.path,
            config=self.config,
            threads=self.session.record.threads,
            step=state.step,
            samplers=self.session.others,
            data_hash=self.session.record.data_hash,
            text=self.session.text,
            optimizer={
                name: {key: (value.shape, value.dtype) for key, value in values.items()}
                for name, values in optimizer.items()
            },
        )
        with naming_lost_run(self.session.path):
            self.group.broadcast(start)
            copy_from_first(state.model, optimizer)
        if self.train.parallel == "fsdp":
            model = apply_clamp(MTPTransformer(self.config.model).to(self.device), self.config.clamp)
            self.whole = start_state(model, self.config, state.generator)

    def _fit(self, stop: Callable[[], bool]) -> None:
        with naming_lost_run(self.session.path):
            super()._fit(stop)

    def _sample(self, one: Session) -> Callable[[], Batch]:
        def sample() -> Batch:
            batch = one.sampler()
            one.state.tokens += (self.group.size - 1) * batch.tokens.numel()  # the loop adds this process's
            return batch

        return sample

    def _after_step(self) -> None:
        with self._seen(due(self.config, self.session.state.step)):
            super()._after_step()

    def _end(self, reason: str) -> None:
        with naming_lost_run(self.session.path):
            with self._seen(_due_at_end(self.config, self.session.state.step)):
                super()._end(reason)
            _agree(self.group, GO_ON)
            self.group.ended = True

    @contextlib.contextmanager
    def _seen(self, wanted: Due) -> Iterator[None]:
        """Swap in the state for evaluation, probes and checkpoints: the whole model, and the counters of all samplers."""
        own = self.session.state
        if wanted.checkpoint:
            gathered: list[dict[str, Tensor]] = self.group.gather(dict[str, Tensor]())
            self.session.others |= {name: value for counters in gathered for name, value in counters.items()}
        if self.whole is not None and wanted.model:
            put_together(own.model, own.optimizer, (self.whole.model, self.whole.optimizer))
            self.session.state = dataclasses.replace(own, model=self.whole.model, optimizer=self.whole.optimizer)
        try:
            yield
        finally:
            self.session.state = own


def follow(group: ProcessGroup, should_stop: Callable[[], str] = lambda: "") -> Run:
    """Train as one of the ranks above 0 until rank 0 ends; returns the run, whose folder is on the machine of rank 0.

    Raises ProcessGone when another process ends before its time, ProcessFailed when it sent FAILED or did not begin.
    """
    with deferred():  # a signal counts at the agreement before the first step
        start: Start | None = group.broadcast()
    if start is None:
        raise ProcessFailed("the first process did not begin a training")
    with naming_lost_run(start.path):
        torch.set_num_threads(start.threads)
        state, sampler = _join_in(group, start)
        train = start.config.train

        def help_with(wanted: Due) -> None:
            if wanted.checkpoint:
                counters = {f"{name} of process {group.rank}": value for name, value in sampler.counters().items()}
                group.gather(counters)
            if train.parallel == "fsdp" and wanted.model:
                put_together(state.model, state.optimizer, None)

        def after_step() -> None:
            state.pending.clear()
            help_with(due(start.config, state.step))

        with deferred():
            member = Member(state=state, sample=sampler, config=start.config)
            fit([member], [after_step], lambda: bool(_agreed(group, should_stop)))
            help_with(_due_at_end(start.config, state.step))
            _agree(group, GO_ON)
            group.ended = True
    return Run(start.path)


def _join_in(group: ProcessGroup, start: Start) -> tuple[TrainState, Sampler]:
    config = start.config
    device = pick_device(config.train.device)
    saved = start.path / TASK_FOLDER  # absent where this process runs on a machine without the run's folder
    task = open_task(config.task, saved=saved if saved.is_dir() else None, data_hash=start.data_hash, path=start.text)
    model = apply_clamp(MTPTransformer(config.model).to(device), config.clamp)
    generator = seeded_generator(stream_seed(config.seed, f"data of process {group.rank}"), device)
    copy_from_first(model, {})
    state = start_state(model, config, generator)
    state.step = start.step
    parameters = dict(model.named_parameters())
    for name, values in start.optimizer.items():
        state.optimizer.state[parameters[name]] = {
            key: torch.empty(shape, dtype=dtype, device=device) for key, (shape, dtype) in values.items()
        }
    copy_from_first(torch.nn.Module(), _by_name(state))
    sampler = Sampler(task, config.train.batch_size // group.size, generator, device)
    suffix = f" of process {group.rank}"
    counters = {name.removesuffix(suffix): value for name, value in start.samplers.items() if name.endswith(suffix)}
    if counters:
        sampler.restore(counters)
    return state, sampler


def _by_name(state: TrainState) -> dict[str, dict[str, Any]]:
    """The optimizer's state of each parameter that has one."""
    return {
        name: state.optimizer.state[parameter]
        for name, parameter in state.model.named_parameters()
        if parameter in state.optimizer.state
    }


def _due_at_end(config: RunConfig, step: int) -> Due:
    """After the last step only the evaluation on the whole test set is left; a stopped training writes a checkpoint."""
    return Due(evaluation=step == config.steps, checkpoint=step < config.steps)


def _agreed(group: ProcessGroup, should_stop: Callable[[], str]) -> str:
    """Why all processes stop before the next step, if any of them has a reason; on rank 0 the reason itself.

    A signal that torchrun passes on may reach other ranks a step before rank 0, so their reasons count as well.
    """
    reason = should_stop()
    if _agree(group, STOP if reason else GO_ON) == GO_ON:
        return ""
    return next(filter(None, group.gather(reason)), "another process was asked to stop")


def _agree(group: ProcessGroup, code: int) -> int:
    agreed = group.agree(code)
    if agreed == FAILED:
        raise ProcessFailed("another process of this training failed")
    return agreed
