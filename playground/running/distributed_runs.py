"""A stored run that several processes train, started by torchrun (docs/several-gpus.md).

The first process (rank 0) keeps the run: it restores, writes, evaluates and probes as it would alone. The others hold no files.
They are told what to train, get weights and optimizer from the first, and go through their rows of every step, each from a
stream of random numbers of its own.
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
from playground.running.side_by_side import Due, SideBySide, due
from playground.running.stopping import deferred
from playground.runs.store import TASK_FOLDER, Run
from playground.torchrun import launched
from playground.training.crew import (
    FAILED,
    GO_ON,
    STOP,
    Crew,
    ProcessFailed,
    joined,
    naming_the_lost,
    present_crew,
)
from playground.training.distributed import copy_from_first, put_together
from playground.training.loop import TrainState, fit, start_state
from playground.training.sampler import Sampler
from tasks.base import Batch, seeded_generator, stream_seed
from tasks.registry import open_task

P = ParamSpec("P")


def on_all_processes(work: Callable[P, Run]) -> Callable[P, Run]:
    """Under torchrun the first process does the work, and the others train with it; alone it is just the work."""

    @functools.wraps(work)
    def each(*args: P.args, **options: P.kwargs) -> Run:
        if not launched():
            return work(*args, **options)
        with joined() as crew:
            if crew.rank == 0:
                return work(*args, **options)
            return follow(crew, cast(Callable[[], str], options.get("should_stop", lambda: "")))

    return each


def work_on(session: Session) -> SideBySide:
    """The work on one run, for this process alone or for the first of several. Raises ValueError as check_shared does."""
    crew = present_crew()
    return SideBySide([session]) if crew is None else Lead(session, crew)


def check_shared(config: RunConfig) -> None:
    """Raises ValueError for what several processes cannot do: rows that do not divide evenly, clipping by a part's norm."""
    crew, train = present_crew(), config.train
    if crew is not None and config.optim.clip_by != "all":
        raise ValueError(
            f"clip_by '{config.optim.clip_by}' is for one process; leave torchrun out, or write clip_by 'all'"
        )
    if crew is not None and train.batch_size % (crew.size * train.accumulate):
        parts = f" in accumulate={train.accumulate} parts each" if train.accumulate > 1 else ""
        raise ValueError(
            f"a batch of {train.batch_size} rows does not divide evenly among {crew.size} processes{parts}; "
            f"write a batch_size that is a multiple of {crew.size * train.accumulate}"
        )


@dataclass(frozen=True, kw_only=True)
class Start:
    """What the first process tells the others."""

    path: Path
    config: RunConfig
    threads: int
    step: int
    samplers: dict[str, Tensor]
    """The others' counters, by name."""
    data_hash: str
    """Fingerprint of the text that a task reads; empty for the others."""
    text: str | None
    """Where that text lies, if it was moved."""
    optimizer: dict[str, dict[str, tuple[torch.Size, torch.dtype]]]
    """Shapes and types of the optimizer's state, by parameter."""


class Lead(SideBySide):
    """The first process's work on a run."""

    def __init__(self, session: Session, crew: Crew) -> None:
        check_shared(session.config)
        super().__init__([session])
        session.record = dataclasses.replace(session.record, processes=crew.size)
        self.crew, self.session = crew, session
        self.whole: TrainState | None = None
        """Of sharded parameters the whole, for those who look at them or store them."""

    def run(self, should_stop: Callable[[], str]) -> list[Run]:
        return super().run(functools.partial(_agreed, self.crew, should_stop))

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
        with naming_the_lost(self.session.path):
            self.crew.tell(start)
            copy_from_first(state.model, optimizer)
        if self.train.parallel == "fsdp":
            model = apply_clamp(MTPTransformer(self.config.model).to(self.device), self.config.clamp)
            self.whole = start_state(model, self.config, state.generator)

    def _fit(self, stop: Callable[[], bool]) -> None:
        with naming_the_lost(self.session.path):
            super()._fit(stop)

    def _sample(self, one: Session) -> Callable[[], Batch]:
        def sample() -> Batch:
            batch = one.sampler()
            one.state.tokens += (self.crew.size - 1) * batch.tokens.numel()  # the loop adds this process's
            return batch

        return sample

    def _after_step(self) -> None:
        with self._seen(due(self.config, self.session.state.step)):
            super()._after_step()

    def _end(self, reason: str) -> None:
        with naming_the_lost(self.session.path):
            with self._seen(_due_at_end(self.config, self.session.state.step)):
                super()._end(reason)
            _listen(self.crew, GO_ON)
            self.crew.ended = True

    @contextlib.contextmanager
    def _seen(self, wanted: Due) -> Iterator[None]:
        """The state as those see it who evaluate, probe and store: with the whole model, and the others' samplers."""
        own = self.session.state
        if wanted.checkpoint:
            gathered: list[dict[str, Tensor]] = self.crew.gather(dict[str, Tensor]())
            self.session.others |= {name: value for counters in gathered for name, value in counters.items()}
        if self.whole is not None and wanted.model:
            put_together(own.model, own.optimizer, (self.whole.model, self.whole.optimizer))
            self.session.state = dataclasses.replace(own, model=self.whole.model, optimizer=self.whole.optimizer)
        try:
            yield
        finally:
            self.session.state = own


def follow(crew: Crew, should_stop: Callable[[], str] = lambda: "") -> Run:
    """Train with the first process until it ends; returns the run, whose folder is where the first process is.

    Raises ProcessGone when another process ends before its time, ProcessFailed when it said so, or did not begin.
    """
    with deferred():  # a signal stops all of them, before the first step
        start: Start | None = crew.tell()
    if start is None:
        raise ProcessFailed("the first process did not begin a training")
    with naming_the_lost(start.path):
        torch.set_num_threads(start.threads)
        state, sampler = _join_in(crew, start)
        train = start.config.train

        def help_with(wanted: Due) -> None:
            if wanted.checkpoint:
                counters = {f"{name} of process {crew.rank}": value for name, value in sampler.counters().items()}
                crew.gather(counters)
            if train.parallel == "fsdp" and wanted.model:
                put_together(state.model, state.optimizer, None)

        def after_step(state: TrainState) -> None:
            state.pending.clear()
            help_with(due(start.config, state.step))

        with deferred():
            fit(state, sampler, start.config, [after_step], lambda: bool(_agreed(crew, should_stop)))
            help_with(_due_at_end(start.config, state.step))
            _listen(crew, GO_ON)
            crew.ended = True
    return Run(start.path)


def _join_in(crew: Crew, start: Start) -> tuple[TrainState, Sampler]:
    config = start.config
    device = pick_device(config.train.device)
    saved = start.path / TASK_FOLDER  # absent where this process runs on a machine without the run's folder
    task = open_task(config.task, saved=saved if saved.is_dir() else None, data_hash=start.data_hash, path=start.text)
    model = apply_clamp(MTPTransformer(config.model).to(device), config.clamp)
    generator = seeded_generator(stream_seed(config.seed, f"data of process {crew.rank}"), device)
    copy_from_first(model, {})
    state = start_state(model, config, generator)
    state.step = start.step
    parameters = dict(model.named_parameters())
    for name, values in start.optimizer.items():
        state.optimizer.state[parameters[name]] = {
            key: torch.empty(shape, dtype=dtype, device=device) for key, (shape, dtype) in values.items()
        }
    copy_from_first(torch.nn.Module(), _by_name(state))
    sampler = Sampler(task, config.train.batch_size // crew.size, generator, device)
    suffix = f" of process {crew.rank}"
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
    """Behind the last step everything has been stored, and the whole test set is left; a stopped training is stored."""
    return Due(evaluation=step == config.steps, checkpoint=step < config.steps)


def _agreed(crew: Crew, should_stop: Callable[[], str]) -> str:
    """Why all processes stop before the next step, if any of them was asked to; the first process knows the reason.

    A signal that torchrun passes on may reach the others a step before the first process, so their reasons count as its own.
    """
    reason = should_stop()
    if _listen(crew, STOP if reason else GO_ON) == GO_ON:
        return ""
    return next(filter(None, crew.gather(reason)), "another process was asked to stop")


def _listen(crew: Crew, code: int) -> int:
    agreed = crew.agree(code)
    if agreed == FAILED:
        raise ProcessFailed("another process of this training failed")
    return agreed
