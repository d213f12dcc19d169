"""Evaluation mode for a block: every module is in it, and each has its own mode back after it."""

import pytest

from playground.model.evaluation_mode import evaluation_mode
from tests.cases import small_model


@pytest.mark.parametrize("was_training", [True, False])
def test_the_mode_is_restored(was_training: bool) -> None:
    model = small_model().train(was_training)
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert all(module.training == was_training for module in model.modules())


def test_each_module_has_its_own_mode_back() -> None:
    model = small_model().train()
    model.future_heads.eval()
    before = [module.training for module in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before and True in before and False in before


def test_the_mode_is_restored_after_an_error() -> None:
    model = small_model().train()
    with pytest.raises(RuntimeError, match="spilt"), evaluation_mode(model):
        raise RuntimeError("spilt")
    assert model.training
