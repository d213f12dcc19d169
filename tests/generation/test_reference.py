"""Uncached decoding, the definition: every rule and shape of drafts runs, a row at a time, and so do edits of the model."""

import pytest
import torch

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.decoder import Decoder
from playground.generation.reference import generate_uncached
from tests.cases import FUTURE_HEADS
from tests.generation.cases import PROMPTS, TREES, always, count_up, counting_model, never, plainly, tiny_model

COLD = Sampling(temperature=1e-6)
"""Draws, and yet draws what greedy decoding takes."""
WAYS = [
    ({}, "exact"),
    ({"speculative": 3}, "exact"),
    ({"speculative": 3}, "typical"),
    ({"tree": TREES["bushy"]}, "exact"),
    ({"tree": TREES["bushy"]}, "typical"),
    ({"tree": TREES["a chain as a tree"]}, "exact"),
    ({"tree": TREES["no favourite"]}, "exact"),
]


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_sampling_that_leaves_nothing_to_chance_is_greedy_whatever_drafts(kind):
    model = tiny_model(4, future_heads=kind, n_ctx=5)
    expected = plainly(model, PROMPTS[:2], 4)
    for drafts, rule in WAYS:
        config = DecodingConfig(max_new_tokens=4, sampling=COLD, rule=rule, overflow="slide", **drafts)
        found = generate_uncached(model, PROMPTS[:2], config, seeded())
        assert [row.tokens for row in found.decoded] == expected
        assert found.exact is (rule == "exact")


@pytest.mark.parametrize(("drafts", "rule"), WAYS)
def test_drafts_that_are_always_or_never_right(drafts, rule):
    config = DecodingConfig(max_new_tokens=7, sampling=COLD, rule=rule, **drafts)
    most = 1 if drafts.get("tree") is TREES["no favourite"] else config.drafts.speculative
    for says, each in [(always, most), (never, 1)]:
        (row,) = generate_uncached(counting_model(says), [[3]], config, seeded()).decoded
        assert row.tokens == count_up([3], 7)
        assert row.emitted == each * row.forwards


def test_a_decoder_that_is_kept_sees_hooks_that_came_later():
    model = tiny_model(2)
    decoder = Decoder(model, DecodingConfig(max_new_tokens=2))
    before = decoder.generate([[1]])
    model.hook_trunk.add_hook(lambda z, hook: 0 * z)
    with pytest.raises(ValueError, match=r"the first at hook_trunk\), .* write cached=False"):
        decoder.generate([[1]])
    model.reset_hooks()
    assert decoder.generate([[1]]).decoded == before.decoded
