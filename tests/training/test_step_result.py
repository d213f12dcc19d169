"""What a step computed, by name; and as rows of a checkpoint."""

import math

import pytest
import torch

from playground.training.step_result import StepResult, from_rows, loss_names, stacked, to_rows

NAMES = loss_names(2)


def result(*losses: float, norm: float = 1.0) -> StepResult:
    return StepResult(names=NAMES, losses=torch.tensor(losses, dtype=torch.float32), grad_norm=torch.tensor(norm))


def test_rows_of_a_checkpoint_hold_losses_and_then_the_norm():
    steps = [result(1.0, 2.0, norm=3.0), result(4.0, 5.0, norm=6.0)]
    rows = to_rows(steps, NAMES)
    assert rows.tolist() == [[1, 2, 3], [4, 5, 6]]
    back = from_rows(rows, NAMES)
    assert [(one.losses.tolist(), one.grad_norm.item()) for one in back] == [([1, 2], 3), ([4, 5], 6)]
    assert to_rows([], NAMES).shape == (0, 3) and from_rows(to_rows([], NAMES), NAMES) == []


@pytest.mark.parametrize("shape", [(2, 2), (2, 4)])
def test_rows_of_another_number_of_losses_are_refused(shape):
    with pytest.raises(ValueError, match="not \\(steps, 3\\)"):
        from_rows(torch.zeros(shape), NAMES)


def test_a_result_of_replicas_is_taken_apart_and_steps_are_put_together():
    both = StepResult(names=NAMES, losses=torch.tensor([[1.0, 2.0], [3.0, 4.0]]), grad_norm=torch.tensor([5.0, 6.0]))
    first, second = both.unbind()
    assert second.losses.tolist() == [3, 4] and second.grad_norm.item() == 6
    together = stacked([first, second]).to_host()
    assert torch.equal(together.losses, both.losses.double()) and torch.equal(
        together.grad_norm, both.grad_norm.double()
    )
    with pytest.raises(ValueError, match="at least one"):
        stacked([])


@pytest.mark.parametrize(
    ("steps", "step", "name", "value"),
    [
        ([result(1, 2), result(1, math.nan), result(math.inf, 1)], 1, "loss of offset 2", math.nan),
        ([result(1, 2, norm=math.inf), result(-math.inf, 1)], 1, "loss of offset 1", -math.inf),
        ([result(1, 2), result(1, 2, norm=math.inf)], 1, "gradient", math.inf),
    ],
)
def test_the_first_loss_that_is_not_finite_is_named_before_any_gradient(steps, step, name, value):
    found = stacked(steps).first_not_finite()
    assert found is not None and found[:2] == (step, name)
    assert found[2] == value or math.isnan(found[2]) == math.isnan(value)


def test_finite_results_have_nothing_to_name():
    assert stacked([result(1, 2), result(3, 4)]).first_not_finite() is None
