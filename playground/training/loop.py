"""The training loop. It knows a model, a source of batches and a list of callbacks; everything else is a callback."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.training.base import freeze_base
from playground.training.freeze import freeze_heads
from playground.training.loss import BACKWARD
from playground.training.optim import learning_rate, make_optimizer
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
    optimizer = make_optimizer(model, config.optim)
    freeze_heads(model, optimizer, config.clamp)
    return TrainState(model=model, optimizer=optimizer, generator=generator)


def fit(
    state: TrainState,
    sample: Sample,
    config: RunConfig,
    callbacks: Sequence[Callback] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train until `config.train.steps` or until `should_stop()`; after each step every callback sees the state.

    `sample()` draws the next batch, from `state.generator`. Nothing here waits for the device.
    """
    backward = BACKWARD[config.train.backward]
    parameters = list(state.model.parameters())
    device = parameters[0].device.type
    while state.step < config.train.steps and not should_stop():
        state.lr = learning_rate(state.step, config.train.steps, config.optim)
        for group in state.optimizer.param_groups:
            group["lr"] = state.lr
        batch = sample()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            losses = backward(state.model, batch)
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.optim.clip, foreach=True)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        state.tokens += batch.tokens.numel()
        state.pending.append(torch.cat([losses, norm[None]]))
        for callback in callbacks:
            callback(state)
    return state
