"""Shapes are checked where functions run as they are written, and what torch.compile traces holds no checks: one graph each.

The compiled parts of training and decoding run on the CPU here, with torch's own backend that generates no code. `fullgraph`
makes an error of whatever cuts a graph into pieces.
"""

import functools
import os
import types

import jaxtyping
import pytest
import torch

from playground.generation.config import DecodingConfig
from playground.generation.decoder import Decoder
from playground.model.layers import rotate
from playground.model.stack import Stack, clip_rows
from playground.training import cross_entropy
from playground.training.objectives.n_token import NToken
from playground.training.step import Compiled
from tests import type_checking
from tests.cases import make_batch, random_tokens, small_model
from tests.generation.cases import PROMPTS, tiny_model

with_checks = pytest.mark.skipif(os.environ.get("PLAYGROUND_NO_TYPECHECK") == "1", reason="the checks are left out")


@pytest.fixture
def whole_graphs(monkeypatch):
    """torch.compile refuses what does not become one graph, and generates no code."""
    torch.compiler.reset()
    cross_entropy._compiled.cache_clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True))
    yield
    cross_entropy._compiled.cache_clear()
    torch.compiler.reset()


def rotated_without_heads() -> torch.Tensor:
    """Against the annotation of `rotate`, which asks for four dimensions. It computes something all the same."""
    return rotate(torch.ones(2, 3, 8), (torch.ones(1, 8), torch.zeros(1, 8)))


@with_checks
def test_shapes_are_checked_except_while_compiling(whole_graphs):
    for _ in range(2):
        with pytest.raises(jaxtyping.TypeCheckError):
            rotated_without_heads()
        assert torch.compile(rotated_without_heads)().eq(1).all()


@with_checks
def test_shape_checks_can_be_left_out(no_shape_checks):
    assert rotated_without_heads().eq(1).all()


def learnt(model, batch) -> list[torch.Tensor]:
    """Losses and all gradients."""
    model.zero_grad()
    losses = NToken().loss("per_head")(model, batch, None)
    losses.total.backward()
    return [losses.each, *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("kind", ["independent", "sequential", "hydra", "linear"])
def test_compiled_layers_learn_what_plain_ones_learn(kind, replicas, whole_graphs):
    models = [small_model(seed, n_future=2, future_heads=kind) for seed in range(replicas)]
    model = models[0] if replicas == 1 else Stack(models).joint
    batch = make_batch(random_tokens(rows=2 * replicas))
    plain = learnt(model, batch)
    with Compiled(model).used():
        compiled = learnt(model, batch)
    for ours, theirs in zip(compiled, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=3e-2, atol=3e-2)  # the final norm writes half precision


def test_compiled_clipping_is_the_plain_one(whole_graphs):
    rows, limits = [torch.arange(6.0).view(2, 3), torch.ones(2, 4)], torch.tensor([1.0, 100.0])
    plain, compiled = ([part.clone() for part in rows] for _ in range(2))
    torch.testing.assert_close(torch.compile(clip_rows)(compiled, limits), clip_rows(plain, limits))
    torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize("kind", ["independent", "sequential"])
def test_compiled_decoding_writes_what_plain_decoding_writes(kind, whole_graphs):
    model, config = tiny_model(3, future_heads=kind), DecodingConfig(max_new_tokens=4, speculative=3)
    plain, compiled = (Decoder(model, config, compiled=way).generate(PROMPTS) for way in (False, True))
    assert compiled.decoded == plain.decoded


def test_kernels_of_triton_stay_as_they_are():
    """Triton compiles a kernel from its source and looks names up in its module, which a wrapper would hide."""
    kernel = types.FunctionType((lambda x: x).__code__, {"triton": None})
    assert type_checking._checked_unless_compiling(kernel, lambda _: None) is kernel
