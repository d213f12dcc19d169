"""What pages compute of a model: once for each model and each choice of other arguments, the newest ones."""

import pytest

from playground.ui.shared.models import Loaded, kept
from tasks import Task, make_task
from tests.cases import small_model


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("induction", d_vocab=11, n_ctx=12, min_distance=3, max_distance=5, test_rows=8, quick_rows=4)


def test_a_value_is_computed_once_for_each_model_and_the_newest_are_kept(task: Task) -> None:
    calls: list[tuple[int, int]] = []

    @kept(2)
    def compute(loaded: Loaded, power: int = 1) -> list[int]:
        calls.append((loaded.number, power))
        return [power]

    model = small_model()
    one, other = Loaded(model=model, task=task), Loaded(model=model, task=task)
    assert one.number != other.number
    assert compute(one, 2) is compute(one, power=2) and compute(other, 2) is not compute(one, 2)
    assert calls == [(one.number, 2), (other.number, 2)]
    compute(one, 3)
    compute(one, 2)
    compute(other, 2)
    assert calls[2:] == [(one.number, 3), (other.number, 2)]


def test_an_error_is_not_kept(task: Task) -> None:
    calls: list[int] = []

    @kept(2)
    def compute(loaded: Loaded) -> None:
        calls.append(loaded.number)
        raise ValueError("spilt")

    loaded = Loaded(model=small_model(), task=task)
    for _ in range(2):
        with pytest.raises(ValueError, match="spilt"):
            compute(loaded)
    assert len(calls) == 2
