"""The streams along the trunk against the model's own forward, layer by layer."""

import pytest
import torch

from playground.probes.residuals import trunk_sites, trunk_streams
from tests.cases import MODEL_OPTIONS, random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_streams_are_what_the_layers_hand_on(options):
    model, tokens = small_model(n_layers=4, n_future=2, **options), random_tokens()
    streams = trunk_streams(model, tokens)
    assert tuple(streams) == trunk_sites(model) == ("embed", "blocks.0", "blocks.1")
    with torch.no_grad():
        resid = model.embed(tokens)
        if options["positions"] == "standard":
            resid = resid + model.pos_embed.weight[:12]
        rotation = model.rotary(12) if options["positions"] == "rotary" else None
        for site, block in zip(streams, [None, *model.blocks], strict=True):
            resid = resid if block is None else block(resid, rotation)
            assert torch.equal(streams[site], resid)
        assert torch.equal(streams["blocks.1"], model.trunk(tokens))


def test_a_trunk_without_layers_has_one_site():
    model, tokens = small_model(n_layers=1, control="trunk", n_future=2), random_tokens()
    streams = trunk_streams(model, tokens)
    assert tuple(streams) == ("embed",)
    assert torch.equal(streams["embed"], model.trunk(tokens))


def test_no_trace_is_left_and_hooks_of_others_act():
    model, tokens = small_model(n_layers=4, n_future=2), random_tokens()
    plain = trunk_streams(model, tokens)
    with leaves_no_trace(model):
        hooked = trunk_streams(model, tokens)
    assert torch.equal(hooked["blocks.0"], plain["blocks.0"])
    assert torch.equal(hooked["blocks.1"], plain["blocks.1"] * 1.5)
    assert not hooked["blocks.1"].requires_grad
