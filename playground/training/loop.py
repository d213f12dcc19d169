"""The training loop: models, a source of batches for each, and observers that run after each step."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from playground.config import RunConfig
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.training.base import freeze_base
from playground.training.freeze import freeze_heads
from playground.training.optim import learning_rate, make_optimizer
from playground.training.step import Learner, make_step
from playground.training.step_result import StepResult
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
        """Inside this block no training time passes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._since += time.perf_counter() - started


@dataclass(kw_only=True)
class TrainState:
    """State of a training: what a checkpoint must hold so that a resumed training computes the same numbers."""

    model: MTPTransformer
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    tokens: int = 0
    clock: Clock = field(default_factory=Clock)
    pending: list[StepResult] = field(default_factory=list)
    """Results of the steps since the last logged row, one for each step; still on the device."""
    lr: float = 0.0
    """Learning rate of the last step."""


Observer = Callable[[], None]
"""Function that runs after each step: logging, evaluation, probes, checkpoints."""


def start_state(model: MTPTransformer, config: RunConfig, generator: torch.Generator) -> TrainState:
    """The state before the first step, with a new optimizer.

    With `config.base`, the caller has copied the base's weights into `model`, or loads a checkpoint afterwards.
    """
    if config.base is not None:
        freeze_base(model)
    model.recompute = config.train.recompute
    optimizer = make_optimizer(model, config.optim)  # after freeze_base: it takes the parameters that require gradients
    freeze_heads(model, optimizer, config.clamp)
    return TrainState(model=model, optimizer=optimizer, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of the models that are trained side by side: its state, its source of batches, its configuration."""

    state: TrainState
    sample: Sample
    config: RunConfig


def fit(
    members: Sequence[Member],
    observers: Sequence[Observer] = (),
    should_stop: Callable[[], bool] = lambda: False,
    stack: Stack | None = None,
) -> None:
    """Train one model, or several of one shape side by side, for `config.steps` steps or until `should_stop()` is true.

    Each member trains as it would alone, up to rounding. The configurations of the members may differ in the seed and the
    optimizer's settings; all members must be at the same step. Observers run after each step, in the order given. `stack` is
    the members' models already joined, if the caller has one. The loop itself never waits for the device.
    """
    config, states = members[0].config, [member.state for member in members]
    if states[0].step >= config.steps:
        return
    learners = [
        Learner(model=one.state.model, optimizer=one.state.optimizer, optim=one.config.optim) for one in members
    ]
    step = make_step(learners, config, stack)
    while states[0].step < config.steps and not should_stop():
        for member in members:
            member.state.lr = learning_rate(member.state.step, config.steps, member.config.optim)
        batches = [member.sample() for member in members]
        result = step(batches, [state.lr for state in states])
        for state, batch, own in zip(states, batches, result.unbind(), strict=True):
            state.step += 1
            state.tokens += batch.tokens.numel()
            state.pending.append(own)
        for observe in observers:
            observe()
