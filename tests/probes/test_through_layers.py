"""Paths through whole later layers: equal to forwards with the stream put in, and to linear circuits where layers do nothing."""

import numpy as np
import pytest
import torch

from playground.probes.through_layers import through_layers
from playground.probes.token_circuits import ov_circuit
from playground.probes.weights import block_of
from playground.results import Head
from tests.cases import MODEL_OPTIONS, random_tokens, small_model
from tests.handmade import BACK, PREDICTION, TOKEN, induction_model, set_head

FIRST, SECOND, FUTURE = Head("blocks.0", 1), Head("blocks.1", 0), Head("future_heads.1", 1)


def _model(**options):
    """Four layers, with norms and outputs as large as after training."""
    model = small_model(**({"n_layers": 4, "n_future": 2} | options))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
            elif name.endswith("out.weight"):
                parameter.mul_(3)
    return model


def _logits_with(model, layer, stream, offset):
    """Logits of one-token rows when the stream behind the attention of a layer is `stream`: a forward with a hook."""
    point = "hook_resid_mid" if model.config.mlp != "none" else "hook_resid_post"
    tokens = torch.zeros(len(stream), 1, dtype=torch.long)
    hooks = [(f"{layer}.{point}", lambda value, hook: stream[:, None])]
    with torch.no_grad():
        return model.run_with_hooks(tokens, offsets=(offset,), fwd_hooks=hooks)[:, 0, 0]


def _written(model, path):
    """What the path writes for each token, by hooks on forwards of one token: only the path's head's z is let through."""
    stream = model.W_E.detach()
    for head in path:
        kept = {}
        only = torch.arange(model.config.n_heads)[:, None] == head.index
        hooks = [
            (f"{head.layer}.hook_resid_pre", lambda value, hook, stream=stream: stream[:, None]),
            (f"{head.layer}.attn.hook_z", lambda value, hook, only=only: value * only),
            (f"{head.layer}.hook_attn_out", lambda value, hook, kept=kept: kept.update(out=value)),
        ]
        offsets = tuple(range(1, model.n_future + 1))
        with torch.no_grad():
            model.run_with_hooks(torch.zeros(len(stream), 1, dtype=torch.long), offsets=offsets, fwd_hooks=hooks)
        stream = kept["out"][:, 0]
    return stream


@pytest.mark.parametrize("options", MODEL_OPTIONS)
@pytest.mark.parametrize(
    ("path", "offset"), [((FIRST,), 1), ((SECOND,), 2), ((FIRST, SECOND), 2), ((FIRST, FUTURE), 2)]
)
@pytest.mark.parametrize("background", [False, True])
def test_it_equals_a_forward_with_the_written_vectors_put_into_the_stream(options, path, offset, background):
    model = _model(**options)
    rest = torch.randn(16, generator=torch.Generator().manual_seed(5)) if background else torch.zeros(16)
    found = through_layers(model, path, offset, background=rest if background else None)
    written = _written(model, path)
    with_it = _logits_with(model, path[-1].layer, rest + written, offset)
    without = _logits_with(model, path[-1].layer, rest.expand_as(written), offset)
    assert np.allclose(found.matrix, with_it - without, atol=2e-5)
    values = np.linalg.eigvals(found.matrix)
    assert found.eigenvalues == pytest.approx(values.real.sum() / np.abs(values).sum(), abs=1e-6)
    assert found.top1 == (found.matrix.argmax(axis=1) == np.arange(11)).mean()


@pytest.mark.parametrize("mlp", ["gated", "none"])
def test_layers_that_add_nothing_leave_the_direct_circuit(mlp):
    """Row by row up to the norms' sizes, hence the same largest entries."""
    model = _model(mlp=mlp, normalization="RMS")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("out.weight") and not name.startswith("blocks.0.attn"):
                parameter.zero_()
    through, direct = through_layers(model, (FIRST,)), ov_circuit(model, (FIRST,))
    scale = (through.matrix / direct.matrix).mean(axis=1, keepdims=True)
    assert np.allclose(through.matrix, direct.matrix * scale, atol=1e-4) and (scale > 0).all()
    assert through.top1 == direct.top1


def test_a_future_head_that_passes_the_token_on_copies_though_no_direct_path_does():
    """The trunk head writes where the unembedding does not look; one head of the future head carries it there."""
    model = induction_model(2)
    one = torch.eye(32)
    with torch.no_grad():
        set_head(block_of(model, FIRST).attn, 2, v={TOKEN: one}, o={BACK + 1: one})
        set_head(block_of(model, FUTURE).attn, 1, v={BACK + 1: one}, o={PREDICTION: one})
    head = Head("blocks.0", 2)
    direct, first, second = (
        ov_circuit(model, (head,)),
        through_layers(model, (head,), 1),
        through_layers(model, (head,), 2),
    )
    assert second.top1 == 1.0 and second.eigenvalues > 0.99
    assert direct.top1 < 0.2 and first.top1 < 0.2
    assert second.name == "embed -> blocks.0.2 OV -> later layers to offset 2 -> unembed"


def test_a_large_background_makes_the_effect_linear():
    """Beside a stream that is much larger than what is written, norms hardly move: twice the vector, twice the effect."""
    model = _model(mlp="gelu")
    background = 100 * torch.randn(16, generator=torch.Generator().manual_seed(5))
    once = through_layers(model.double(), (FIRST,), background=background).matrix
    with torch.no_grad():
        block_of(model, FIRST).attn.out.weight.mul_(2)
    twice = through_layers(model, (FIRST,), background=background).matrix
    assert np.allclose(twice, 2 * once, rtol=0.1, atol=0.05 * np.abs(twice).max())
    alone = through_layers(model, (FIRST,)).matrix
    assert np.abs(alone).max() > 10 * np.abs(twice).max()  # where the norms scale it up to full size


@pytest.mark.parametrize(
    ("path", "arguments", "message"),
    [
        ((), {}, "the path has no heads"),
        ((Head("blocks.0", 5),), {}, r"no attention head blocks\.0\.5"),
        ((SECOND, FIRST), {}, r"blocks\.0\.1 cannot read what blocks\.1\.0 writes"),
        ((FIRST,), {"offset": 3}, "offset is 3, and the model predicts the offsets 1 to 2"),
        ((FIRST,), {"offset": 0}, "offset is 0"),
        ((FIRST, FUTURE), {"offset": 1}, r"future_heads\.1\.1 does not lead to offset 1; write offset=2"),
        ((FIRST,), {"tokens": [11]}, "unknown token 11"),
    ],
)
def test_what_cannot_be_is_refused(path, arguments, message):
    with pytest.raises(ValueError, match=message):
        through_layers(_model(), path, **arguments)


@pytest.mark.parametrize("tokens", [[3], [7, 2, 10]])
def test_chosen_tokens_are_a_part_of_the_whole(tokens):
    whole, part = through_layers(_model(), (FIRST,)), through_layers(_model(), (FIRST,), tokens=tokens)
    assert np.allclose(part.matrix, whole.matrix[np.ix_(tokens, tokens)], atol=1e-5)


def test_it_leaves_no_trace():
    model, tokens = _model().train(), random_tokens()
    before = model(tokens)
    through_layers(model, (FIRST,), 2)
    assert model.training and torch.equal(model(tokens), before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(point.fwd_hooks for point in model.hook_points())
