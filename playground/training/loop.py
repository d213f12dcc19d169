"""The training loop. It knows a model, a source of batches and a list of callbacks; everything else is a callback."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from playground.config import RunConfig
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.training.base import freeze_base
from playground.training.freeze import freeze_heads
from playground.training.optim import learning_rate, make_optimizer
from playground.training.step import Learner, make_step
from tasks.base import Batch

Sample = Callable[[], Batch]


class Clock:
    """Seconds of training: wall-clock time less what runs inside `paused()`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._since = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._since

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in here is not training time."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - started


@dataclass(kw_only=True)
class TrainState:
    """Where a training stands: all that a checkpoint must hold to go on as if nothing had happened."""

    model: MTPTransformer
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    tokens: int = 0
    clock: Clock = field(default_factory=Clock)
    pending: list[Tensor] = field(default_factory=list)
    """Losses `[offset]` and, last, the gradient norm of each step since the last logged row."""
    lr: float = 0.0


Callback = Callable[[TrainState], None]


def start_state(model: MTPTransformer, config: RunConfig, generator: torch.Generator) -> TrainState:
    """The state before the first step. On a base, `model` holds the base's weights already, or a checkpoint follows."""
    if config.base is not None:
        freeze_base(model)
    model.recompute = config.train.recompute
    optimizer = make_optimizer(model, config.optim)
    freeze_heads(model, optimizer, config.clamp)
    return TrainState(model=model, optimizer=optimizer, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of the models that are trained side by side: where it stands, its batches, its schedule."""

    state: TrainState
    sample: Sample
    config: RunConfig


def fit(
    state: TrainState,
    sample: Sample,
    config: RunConfig,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train for `config.steps` or until `should_stop()`; after each step every callback sees the state.

    `sample()` draws the next batch, from `state.generator`. Nothing here waits for the device.
    """

    def after_step() -> None:
        for callback in callbacks:
            callback(state)

    fit_together([Member(state=state, sample=sample, config=config)], after_step, should_stop)
    return state


def fit_together(
    members: Sequence[Member],
    after_step: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
    stack: Stack | None = None,
) -> None:
    """Train several models of one shape side by side, each as `fit` would train it alone, up to rounding.

    What may differ between their configurations are the seed and the optimizer's settings. They stand at the same step.
    `stack` joins their models, where that has been done already.
    """
    config, states = members[0].config, [member.state for member in members]
    learners = [
        Learner(model=one.state.model, optimizer=one.state.optimizer, optim=one.config.optim) for one in members
    ]
    step = make_step(learners, config, stack) if states[0].step < config.steps else None
    while step is not None and states[0].step < config.steps and not should_stop():
        for member in members:
            member.state.lr = learning_rate(member.state.step, config.steps, member.config.optim)
        batches = [member.sample() for member in members]
        read = step(batches, [state.lr for state in states])
        for state, batch, row in zip(states, batches, read.unbind(), strict=True):
            state.step += 1
            state.tokens += batch.tokens.numel()
            state.pending.append(row)
        after_step()
