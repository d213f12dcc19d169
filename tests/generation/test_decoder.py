"""The decoder's promises: hooks, modes, randomness, precision, callbacks, odd sizes; and CUDA graphs."""

import copy

import pytest
import torch

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.decoder import Decoder
from playground.generation.generate import generate
from playground.generation.tree import best_tree
from tests.cases import FUTURE_HEADS
from tests.generation.cases import PROMPTS, TREES, always, counting_model, plainly, sharpened, tiny_model

SAMPLING = Sampling(temperature=1.0)
WAYS = {"plain": {}, "chain": {"speculative": 4}, "tree": {"tree": TREES["bushy"]}}
ways = pytest.mark.parametrize("drafts", WAYS.values(), ids=WAYS)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def seeded(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def texts(decoding):
    return [row.tokens for row in decoding.decoded]


# --- hooks, modes, what is left behind ------------------------------------------------------------------------------


def test_hooks_are_refused_and_uncached_decoding_runs_them():
    model, config = counting_model(always), DecodingConfig(max_new_tokens=6, speculative=3)
    clean = texts(generate(model, [[0, 1]], config))
    model.hook_embed.add_hook(lambda value, hook: value.roll(1, dims=-1))  # every token is taken for the one behind it
    with pytest.raises(ValueError, match=r"has hooks \(the first at hook_embed\), .*write cached=False"):
        generate(model, [[0, 1]], config)
    assert clean == [(2, 3, 4, 5, 6, 7)]
    assert texts(generate(model, [[0, 1]], config, cached=False)) == [(3, 5, 7, 9, 0, 2)]
    model.reset_hooks()
    assert texts(generate(model, [[0, 1]], config)) == clean


def test_backward_hooks_are_refused_as_well():
    model = tiny_model(2)
    model.hook_trunk.add_hook(lambda gradient, hook: None, dir="bwd")
    with pytest.raises(ValueError, match="the first at hook_trunk"):
        Decoder(model, DecodingConfig(max_new_tokens=2))


@ways
@pytest.mark.parametrize("cached", [True, False])
def test_the_model_is_left_as_it_was(drafts, cached):
    model = tiny_model(4)
    for index, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(index))
    next(model.parameters()).requires_grad_(False)
    model.train()
    before, gradients = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()]
    for sampling in (Sampling(), SAMPLING):
        config = DecodingConfig(max_new_tokens=3, sampling=sampling, **drafts)
        generate(model, PROMPTS[:2], config, generator=seeded(), cached=cached)
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), gradients, strict=True))
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * (len(gradients) - 1)
    assert all(module.training for module in model.modules()) and torch.is_grad_enabled()
    assert not any(point.fwd_hooks or point.bwd_hooks for point in model.hook_dict.values())


@pytest.mark.parametrize("cached", [True, False])
def test_each_modules_mode_is_restored_also_when_a_callback_fails(cached):
    model = tiny_model(2).train()
    model.blocks[0].eval()
    before = [module.training for module in model.modules()]

    def fails(row, step):
        raise RuntimeError("enough")

    for on_step in (None, fails):
        try:
            generate(model, [[1, 2]], DecodingConfig(max_new_tokens=3), cached=cached, on_step=on_step)
        except RuntimeError as error:
            assert str(error) == "enough" and on_step is not None
        assert [module.training for module in model.modules()] == before


@ways
@pytest.mark.parametrize("cached", [True, False])
def test_every_forward_is_told_in_order(drafts, cached):
    told = [[] for _ in PROMPTS[:3]]
    config = DecodingConfig(max_new_tokens=6, stop=(3,), **drafts)
    found = generate(
        tiny_model(4), PROMPTS[:3], config, cached=cached, on_step=lambda row, step: told[row].append(step)
    )
    assert [tuple(steps) for steps in told] == [row.steps for row in found.decoded]


# --- randomness and precision ---------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("cached", [True, False])
def test_one_seed_one_text(drafts, cached):
    model, config = tiny_model(4), DecodingConfig(max_new_tokens=6, sampling=SAMPLING, **drafts)
    one, same, other = (
        generate(model, PROMPTS[:3], config, generator=seeded(s), cached=cached).decoded for s in (1, 1, 2)
    )
    assert one == same != other


def test_the_global_generator_is_neither_read_nor_moved():
    model, config = tiny_model(4), DecodingConfig(max_new_tokens=5, sampling=SAMPLING, speculative=3)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(texts(generate(model, PROMPTS, config, generator=seeded())))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_sampling_needs_a_generator():
    with pytest.raises(ValueError, match=r"write generator=torch\.Generator\(device\)\.manual_seed\(0\)"):
        generate(tiny_model(2), [[1]], DecodingConfig(max_new_tokens=1, sampling=SAMPLING))


def test_an_almost_cold_temperature_is_greedy():
    model, cold = sharpened(tiny_model(4)), Sampling(temperature=1e-6)
    for drafts in WAYS.values():
        found = generate(model, PROMPTS, DecodingConfig(max_new_tokens=8, sampling=cold, **drafts), generator=seeded())
        assert texts(found) == plainly(model, PROMPTS, 8)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_other_precisions(kind):
    """bfloat16 runs on the CPU, with logits in float32, and leaves the model as it is; float64 is decoded as it is."""
    model = counting_model(always, future_heads=kind)
    for drafts in (WAYS["chain"], WAYS["tree"]):
        config = DecodingConfig(max_new_tokens=6, **drafts)
        expected = texts(generate(model, PROMPTS, config))
        decoder = Decoder(model, config, dtype=torch.bfloat16)
        assert decoder.model.unembed.weight.dtype == decoder.model.ln_final.weight.dtype == torch.float32
        assert decoder.model.W_E.dtype == torch.bfloat16
        assert texts(decoder.generate(PROMPTS)) == expected
        assert model.W_E.dtype == torch.float32
        double = copy.deepcopy(model).double()
        for cached in (True, False):
            assert texts(generate(double, PROMPTS[:2], config, cached=cached)) == expected[:2]


def test_a_decoder_serves_again_and_again():
    model = tiny_model(4)
    decoder = Decoder(model, DecodingConfig(max_new_tokens=5, speculative=4))
    for prompts in (PROMPTS, PROMPTS[:2], PROMPTS):
        assert texts(decoder.generate(prompts)) == plainly(model, prompts, 5)


# --- odd sizes ------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("cached", [True, False])
def test_one_new_token_comes_from_the_prefill(drafts, cached):
    model = tiny_model(4)
    found = generate(model, PROMPTS, DecodingConfig(max_new_tokens=1, **drafts), cached=cached)
    assert texts(found) == plainly(model, PROMPTS, 1)
    assert {row.forwards for row in found.decoded} == {0} and found.tokens_per_forward != found.tokens_per_forward


@ways
@pytest.mark.parametrize("cached", [True, False])
def test_a_stop_token_may_be_the_very_first(drafts, cached):
    model = counting_model(always)
    found = generate(model, [[2], [0]], DecodingConfig(max_new_tokens=8, stop=(3,), **drafts), cached=cached)
    assert texts(found) == [(3,), (1, 2, 3)]
    assert [row.ended for row in found.decoded] == ["stop", "stop"] and found.decoded[0].forwards == 0


@pytest.mark.parametrize("kind", FUTURE_HEADS)
@pytest.mark.parametrize("d_vocab", [1, 2, 3])
def test_small_vocabularies(kind, d_vocab):
    model = tiny_model(3, d_vocab=d_vocab, future_heads=kind)
    prompts = [[0], [d_vocab - 1, 0, 0]]
    tree = best_tree([[0.5] * d_vocab] * 2, 64)
    for drafts in ({}, {"speculative": 3}, {"tree": tree}):
        assert texts(generate(model, prompts, DecodingConfig(max_new_tokens=9, **drafts))) == plainly(model, prompts, 9)
        sampled = DecodingConfig(max_new_tokens=9, sampling=Sampling(temperature=2.0, top_k=2, top_p=0.9), **drafts)
        found = texts(generate(model, prompts, sampled, generator=seeded()))
        assert all(0 <= token < d_vocab for row in found for token in row)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_a_tree_larger_than_the_context(kind):
    """64 drafts in a context of 12, with a prompt that fills it, and sliding."""
    tree = best_tree([[0.4, 0.2, 0.2, 0.1, 0.1]] * 3, 64)
    model = tiny_model(4, n_ctx=12, future_heads=kind)
    assert tree.n_nodes == 65
    for prompts, count in [([[1], [2, 3]], 11), ([[4, 3] * 6], 1), ([[1, 2]], 3)]:
        found = generate(model, prompts, DecodingConfig(max_new_tokens=count, tree=tree))
        assert texts(found) == plainly(model, prompts, count)
    config = DecodingConfig(max_new_tokens=15, tree=tree, overflow="slide")
    assert texts(generate(model, PROMPTS, config)) == plainly(model, PROMPTS, 15)


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_the_shortest_contexts(kind):
    """One token more than the model has offsets, and, for plain decoding of a next-token model, two tokens."""
    for n_future, n_ctx, ways in [(1, 2, ["plain"]), (2, 3, []), (4, 5, ["tree"])]:
        model, prompts = tiny_model(n_future, n_ctx=n_ctx, future_heads=kind), [[1], [2, 3, 4, 0]]
        for drafts in [*map(WAYS.get, ways), *[{"speculative": n_future}] * (n_future > 1)]:
            config = DecodingConfig(max_new_tokens=5, overflow="slide", **drafts)
            found = generate(model, prompts, config)
            assert texts(found) == plainly(model, prompts, 5)
            assert generate(model, prompts[1:], config, cached=False).decoded == found.decoded[1:]


# --- graphs ---------------------------------------------------------------------------------------------------------


def test_graphs_need_a_gpu():
    with pytest.raises(ValueError, match="CUDA graphs need a model on a GPU; write graphs=False"):
        Decoder(tiny_model(2), DecodingConfig(max_new_tokens=2), graphs=True)


@on_a_gpu
@pytest.mark.parametrize("kind", FUTURE_HEADS)
@ways
def test_graphs_give_what_kernels_launched_one_by_one_give(kind, drafts):
    model = tiny_model(4, future_heads=kind, n_ctx=16).double().float().cuda()
    for values in ({"max_new_tokens": 10}, {"max_new_tokens": 40, "overflow": "slide"}):
        for sampling in (Sampling(), SAMPLING):
            config = DecodingConfig(sampling=sampling, **values, **drafts)
            eager, graphed = (
                Decoder(model, config, graphs=graphs).generate(PROMPTS, generator=seeded(0, "cuda"))
                for graphs in (False, True)
            )
            assert [len(row.tokens) for row in graphed.decoded] == [len(row.tokens) for row in eager.decoded]
            if sampling.is_greedy:
                assert graphed.decoded == eager.decoded
