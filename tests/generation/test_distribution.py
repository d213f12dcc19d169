"""Sampled text has exactly the distribution that the model defines, whatever drafted it: thousands of rows, all outcomes enumerated."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from playground.generation import engine, verify
from playground.generation.config import DecodingConfig, Sampling
from playground.generation.generate import generate
from playground.generation.sampling import distribution, draw
from tests.cases import FUTURE_HEADS
from tests.generation.cases import TREES, behind, sharpened, tiny_model

pytestmark = pytest.mark.usefixtures("no_shape_checks")

ROWS, COUNT, PROMPT = 1000, 4, [1, 2, 3]
DRAFTS = {"plain": {}, "K=2": {"speculative": 2}, "K=3": {"speculative": 3}, "K=4": {"speculative": 4}}
DRAFTS |= {name: {"tree": TREES[name]} for name in ("siblings", "bushy", "depth first")}
SAMPLINGS = {
    "temperature": {"temperature": 1.0},
    "sharp, top-k": {"temperature": 0.7, "top_k": 3},
    "flat, top-p": {"temperature": 1.3, "top_p": 0.8},
    "all": {"temperature": 1.5, "top_k": 4, "top_p": 0.9},
}


def by_hand(logits, temperature, top_k=None, top_p=None):
    """Temperature, top-k and top-p of one row, in a loop over its tokens from the most probable on."""
    scaled = np.exp(logits.astype(np.float64) / temperature)
    kept, reached = np.zeros_like(scaled), 0.0
    order = np.argsort(-scaled)[: top_k or len(scaled)]
    for token in order:
        if top_p is not None and reached >= top_p:
            break
        kept[token] = scaled[token]
        reached += scaled[token] / scaled[order].sum()
    return kept / kept.sum()


def exact(model, sampling, count=COUNT, prompt=PROMPT, cut=lambda context: context):
    """`[outcome]`: the probability of every text of `count` tokens, the last one turning fastest."""
    known = np.ones(1)
    for length in range(count):
        texts = list(itertools.product(range(5), repeat=length))
        with torch.no_grad():
            logits = behind(model, [cut([*prompt, *text]) for text in texts], (1,))[:, 0].numpy()
        known = (known[:, None] * np.stack([by_hand(row, **sampling) for row in logits])).ravel()
    return known


def p_value(decoding, expected, count=COUNT):
    """How probable a sample at least as far from the expected distribution is; rare outcomes are counted together."""
    index = [
        sum(token * 5 ** (count - 1 - place) for place, token in enumerate(row.tokens)) for row in decoding.decoded
    ]
    seen, wanted = np.bincount(index, minlength=5**count), expected * len(index)
    assert not seen[wanted == 0].any()
    order = np.argsort(-wanted)
    starts = np.flatnonzero(wanted[order] >= 5)  # each a group, the last with all rarer ones
    seen, wanted = (np.add.reduceat(values[order], starts) for values in (seen, wanted))
    return chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue


def sample(model, config, rows=ROWS, seed=0, prompt=PROMPT):
    return generate(model, [prompt] * rows, config, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def models():
    """By type: models whose offsets disagree enough for drafts to be refused and accepted often."""

    def model(kind):
        return sharpened(tiny_model(4, n_ctx=8, future_heads=kind, unembedding="replicated"), 1.5)

    return {kind: model(kind) for kind in FUTURE_HEADS}


@pytest.mark.parametrize(
    ("drafts", "name"),
    [*((drafts, "temperature") for drafts in DRAFTS), *itertools.product(["K=3", "bushy"], [*SAMPLINGS][1:])],
)
def test_of_every_way_to_draft_and_to_sample(models, drafts, name):
    sampling, model = SAMPLINGS[name], models["independent"]
    config = DecodingConfig(max_new_tokens=COUNT, sampling=Sampling(**sampling), **DRAFTS[drafts])
    found = sample(model, config)
    assert found.exact and p_value(found, exact(model, sampling)) > 1e-3
    if drafts != "plain":
        assert 1.05 < found.tokens_per_forward < config.drafts.speculative - 0.05


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_of_every_type_of_future_heads(models, kind):
    sampling = SAMPLINGS["temperature"]
    expected = exact(models[kind], sampling)
    config = DecodingConfig(max_new_tokens=COUNT, sampling=Sampling(**sampling), speculative=4)
    assert p_value(sample(models[kind], config, seed=1), expected) > 1e-3


@pytest.mark.parametrize("drafts", ["plain", "K=4", "bushy"])
def test_of_a_context_that_slides(models, drafts):
    """The prompt fills all but one place of the context; behind the second new token the older half goes."""
    sampling, prompt = SAMPLINGS["temperature"], [1, 2, 3, 4, 0, 0, 2]
    model = models["hydra"]
    expected = exact(model, sampling, prompt=prompt, cut=lambda context: context[4 * (len(context) > 8) :])
    config = DecodingConfig(max_new_tokens=COUNT, overflow="slide", sampling=Sampling(**sampling), **DRAFTS[drafts])
    assert p_value(sample(model, config, prompt=prompt), expected) > 1e-3


def test_of_uncached_decoding(models):
    model, sampling = models["sequential"], SAMPLINGS["temperature"]
    config = DecodingConfig(max_new_tokens=2, sampling=Sampling(**sampling), speculative=2)
    with_generator = {"generator": torch.Generator().manual_seed(0), "cached": False}
    found = generate(model, [PROMPT] * 80, config, **with_generator)
    assert p_value(found, exact(model, sampling, 2), 2) > 1e-3


# --- what must not pass ---------------------------------------------------------------------------------------------


def test_typical_acceptance_is_found_to_be_another_distribution(models):
    sampling, model = SAMPLINGS["temperature"], models["independent"]
    config = DecodingConfig(max_new_tokens=COUNT, speculative=3, rule="typical", sampling=Sampling(**sampling))
    found = sample(model, config, rows=3000)
    assert not found.exact and p_value(found, exact(model, sampling)) < 1e-6


@pytest.mark.parametrize("broken", ["accepts too much", "draws from p at a refusal", "drafts are the favourites"])
def test_a_broken_rule_is_found(models, monkeypatch, broken):
    """Each is one mistake in the rule of speculative sampling."""
    judge, sampling, model = engine.verify, SAMPLINGS["temperature"], models["independent"]

    def verified(logits, drafts, q, room, uniform, tree, config):
        if broken == "accepts too much":
            return judge(logits, drafts, q, room, uniform * torch.tensor([0.4, 1.0]), tree, config)
        verdict = judge(logits, drafts, q, room, uniform, tree, config)
        rows = torch.arange(len(drafts))
        own = draw(distribution(logits[rows, verdict.last], config.sampling), uniform[rows, verdict.last, 1])
        return verdict._replace(own=own)

    if broken == "drafts are the favourites":
        monkeypatch.setattr(verify, "draw", lambda q, uniform: q.argmax(dim=-1))
    else:
        monkeypatch.setattr(engine, "verify", verified)
    config = DecodingConfig(max_new_tokens=COUNT, speculative=3, sampling=Sampling(**sampling))
    assert p_value(sample(model, config, rows=3000), exact(model, sampling)) < 1e-6
