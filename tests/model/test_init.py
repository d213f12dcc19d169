"""Initial weights: equal where models of one seed share them, and spread as the table says."""

import itertools
import math
from typing import get_args

import pytest
import torch

from playground.config import Control, Init, ModelConfig
from playground.model.transformer import MTPTransformer
from tests.cases import FUTURE_HEADS, MODEL_OPTIONS, small_config

CONTROLS = get_args(Control)
INITS = get_args(Init)


def weights(seed: int = 3, **changes) -> dict[str, torch.Tensor]:
    model = MTPTransformer(small_config(n_layers=5, **changes), torch.Generator().manual_seed(seed))
    return dict(model.named_parameters())


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
def test_models_of_one_seed_share_their_weights_under_every_control(options):
    models = [weights(n_future=n, control=control, **options) for n, control in itertools.product((1, 2, 4), CONTROLS)]
    for one, other in itertools.combinations(models, 2):
        shared = one.keys() & other.keys()
        assert {"embed.weight", "unembed.weight", "future_heads.0.attn.out.weight"} <= shared
        for name in shared:
            assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_types_of_future_heads_and_inits_change_nothing_of_what_is_shared(kind, init):
    changes = {} if kind == "anticausal" else {"control": "detached"}
    one, other = (
        weights(init=init),
        weights(n_future=3, future_heads=kind, unembedding="replicated", init=init, **changes),
    )
    same = [name for name in one.keys() & other.keys() if one[name].shape == other[name].shape]
    assert same
    assert all(torch.equal(one[name], other[name]) for name in same)


def test_other_seeds_and_other_names_are_other_weights():
    one, other = weights(), weights(seed=4)
    matrices = [name for name, value in one.items() if value.ndim == 2]
    assert not any(torch.equal(one[name], other[name]) for name in matrices)
    assert not torch.equal(one["blocks.0.attn.out.weight"], one["blocks.1.attn.out.weight"])
    assert not torch.equal(one["blocks.0.attn.out.weight"], one["future_heads.0.attn.out.weight"])


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("init", INITS)
def test_standard_deviations_are_those_of_the_table(init, control):
    config = ModelConfig(
        n_layers=5,
        n_heads=4,
        d_model=128,
        d_vocab=200,
        n_ctx=64,
        n_future=2,
        control=control,
        init=init,
        positions="standard",
    )
    for name, weight in MTPTransformer(config, torch.Generator().manual_seed(0)).named_parameters():
        if weight.ndim < 2:
            assert torch.equal(weight, torch.ones_like(weight)), name
            continue
        out = name.endswith("out.weight")
        std = 1 / math.sqrt(weight.shape[1]) if init == "fan_in_scaled" else 0.02
        expected = std / math.sqrt(10) if out and init != "normal" else std
        assert weight.std().item() == pytest.approx(expected, rel=0.05), name
        assert abs(weight.mean().item()) < 4 * expected / math.sqrt(weight.numel()), name


def test_another_standard_deviation():
    assert weights(init="normal", init_std=0.5)["embed.weight"].std().item() == pytest.approx(0.5, rel=0.2)
    with pytest.raises(ValueError, match=r"init_std 0.5 .* init 'fan_in_scaled'"):
        small_config(init_std=0.5)
