"""Training one model in a test, and what its steps computed as rows."""

from collections.abc import Callable, Sequence

from torch import Tensor

from playground.config import RunConfig
from playground.training.loop import Member, Observer, TrainState, fit
from playground.training.step_result import to_rows
from tasks.base import Batch


def fit_one(
    state: TrainState,
    sample: Callable[[], Batch],
    config: RunConfig,
    observers: Sequence[Observer] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    fit([Member(state=state, sample=sample, config=config)], observers, should_stop)
    return state


def rows(state: TrainState) -> Tensor:
    """`[step, loss and norm]`."""
    return to_rows(state.pending, state.pending[0].names)
