"""Training of one stored run by several processes, started by torchrun (docs/guides/several-gpus.md).

Rank 0 stores the run: it restores, writes, evaluates and probes as in a training with one process. The other ranks write no
files. They receive configuration, weights and optimizer state from rank 0, and train on their own rows of every step, drawn
from their own random streams.

FirstProcess (rank 0) and `follow` (other ranks) call collective operations in matching order; a change of the order in one of
them needs the change in the other. Otherwise the ranks wait for each other until the timeout.
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
from playground.running.process_keys import process_key, read_process_key
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
    """Decorator: under torchrun rank 0 calls `work` and the other ranks run `follow`; without torchrun `work` is called."""

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
    """Trainer of one run: a Trainer for one process, a FirstProcess under torchrun. Raises ValueError as check_shared does."""
    group = current_process_group()
    return Trainer([session]) if group is None else FirstProcess(session, group)


def check_shared(config: RunConfig) -> None:
    """Raises ValueError under torchrun for rows that do not divide evenly among processes, or a `clip_by` other than "all"."""
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
    """Message of rank 0 to the other ranks before the first step."""

    path: Path
    config: RunConfig
    threads: int
    step: int
    samplers: dict[str, Tensor]
    """Counters of the samplers of ranks 1 and above from the checkpoint, by name; empty for a new run."""
    data_hash: str
    """Fingerprint of the text that the task reads; empty for a task that reads no text."""
    text: str | None
    """Path of that text, if it was moved."""
    optimizer: dict[str, dict[str, tuple[torch.Size, torch.dtype]]]
    """Shape and type of each tensor of the optimizer's state, by name of the parameter and key."""


class FirstProcess(Trainer):
    """The trainer of a run on rank 0."""

    def __init__(self, session: Session, group: ProcessGroup) -> None:
        check_shared(session.config)
        super().__init__([session])
        session.record = dataclasses.replace(session.record, processes=group.size)
        self.group, self.session = group, session
        self.whole: TrainState | None = None
        """With `fsdp`: the unsharded model and optimizer, for evaluation, probes and checkpoints."""

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
            # The order in which `follow` and `_join_in` receive: message, weights, optimizer state.
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
            one.state.tokens += (self.group.size - 1) * batch.tokens.numel()  # the loop adds the tokens of rank 0
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
        """Inside this block the session has what `wanted` needs: the unsharded model, and the counters of all samplers.

        The temporary state shares generator, clock and pending results with the original; assignments to it would be lost.
        """
        own = self.session.state
        # Collective operations, in the order of `help_with` in `follow`: first the gather of counters, then of weights.
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
    """Train as a rank above 0 until rank 0 ends; returns the run, whose folder is on the machine of rank 0.

    Raises ProcessGone if another process ends too early, ProcessFailed if one sent FAILED or rank 0 did not begin a training.
    """
    with deferred():  # a signal is read at the agreement before the first step
        start: Start | None = group.broadcast()
    if start is None:
        raise ProcessFailed("the first process did not begin a training")
    with naming_lost_run(start.path):
        torch.set_num_threads(start.threads)
        state, sampler = _join_in(group, start)
        train = start.config.train

        def help_with(wanted: Due) -> None:
            """Take part in the gathers of `FirstProcess._seen`, in its order."""
            if wanted.checkpoint:
                counters = {process_key(name, group.rank): value for name, value in sampler.counters().items()}
                group.gather(counters)
            if train.parallel == "fsdp" and wanted.model:
                put_together(state.model, state.optimizer, None)

        def after_step() -> None:
            state.pending.clear()  # only rank 0 logs
            help_with(due(start.config, state.step))

        with deferred():
            member = Member(state=state, sample=sampler, config=start.config)
            fit([member], [after_step], lambda: bool(_agreed(group, should_stop)))
            help_with(_due_at_end(start.config, state.step))
            _agree(group, GO_ON)
            group.ended = True
    return Run(start.path)


def _join_in(group: ProcessGroup, start: Start) -> tuple[TrainState, Sampler]:
    """State and sampler of a rank above 0. Receives weights, then optimizer state, as FirstProcess._begin sends them."""
    config = start.config
    device = pick_device(config.train.device)
    saved = start.path / TASK_FOLDER  # absent where this process runs on a machine without the run's folder
    task = open_task(config.task, saved=saved if saved.is_dir() else None, data_hash=start.data_hash, path=start.text)
    model = apply_clamp(MTPTransformer(config.model).to(device), config.clamp)
    generator = seeded_generator(stream_seed(config.seed, f"data of process {group.rank}"), device)
    copy_from_first(model, {})  # before start_state, which copies the weights of frozen heads
    state = start_state(model, config, generator)
    state.step = start.step
    parameters = dict(model.named_parameters())
    for name, values in start.optimizer.items():
        # A broadcast writes into tensors that exist; a new optimizer has none yet.
        state.optimizer.state[parameters[name]] = {
            key: torch.empty(shape, dtype=dtype, device=device) for key, (shape, dtype) in values.items()
        }
    copy_from_first(torch.nn.Module(), _by_name(state))  # a module without parameters: the weights have arrived
    sampler = Sampler(task, config.train.batch_size // group.size, generator, device)
    stored = [(*read_process_key(key), value) for key, value in start.samplers.items()]
    counters = {name: value for name, rank, value in stored if rank == group.rank}
    if counters:
        sampler.restore(counters)
    return state, sampler


def _by_name(state: TrainState) -> dict[str, dict[str, Any]]:
    """The optimizer's state by name of the parameter, in the model's order, for parameters that have one."""
    return {
        name: state.optimizer.state[parameter]
        for name, parameter in state.model.named_parameters()
        if parameter in state.optimizer.state
    }


def _due_at_end(config: RunConfig, step: int) -> Due:
    """Observers at the end: after the last step the evaluation on the whole test set, after a stop a checkpoint."""
    return Due(evaluation=step == config.steps, checkpoint=step < config.steps)


def _agreed(group: ProcessGroup, should_stop: Callable[[], str]) -> str:
    """Reason why all ranks stop before the next step, or "" to continue. Ranks other than 0 get a general reason.

    A signal that torchrun passes on may reach other ranks a step before rank 0, so a reason on any rank stops all.
    """
    reason = should_stop()
    if _agree(group, STOP if reason else GO_ON) == GO_ON:
        return ""
    return next(filter(None, group.gather(reason)), "another process was asked to stop")


def _agree(group: ProcessGroup, code: int) -> int:
    """The largest code of all ranks. Raises ProcessFailed if it is FAILED."""
    agreed = group.agree(code)
    if agreed == FAILED:
        raise ProcessFailed("another process of this training failed")
    return agreed
