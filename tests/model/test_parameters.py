"""Parameter counts against built models and against the paper's 12 L d^2."""

import pytest

from playground.config import SIZES, ModelConfig
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from tests.cases import MODEL_OPTIONS, TYPE_OPTIONS, random_tokens, small_config


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
@pytest.mark.parametrize("control", ["layers", "trunk"])
def test_count_equals_the_built_model_part_by_part(options, control):
    model = MTPTransformer(small_config(n_future=2, control=control, **options))
    counts = count_parameters(model.config)
    built = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counts.embedding == built["embed"] + built.get("pos_embed", 0)
    assert counts.trunk == built["blocks"]
    assert counts.future_heads == built["future_heads"]
    assert counts.unembedding == built["unembed"]
    assert counts.total == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("options", TYPE_OPTIONS, ids=str)
@pytest.mark.parametrize(("normalization", "mlp"), [("RMS", "gated"), ("LN", "none")])
def test_count_equals_the_built_model_for_every_type(options, normalization, mlp):
    model = MTPTransformer(small_config(n_layers=5, n_future=3, normalization=normalization, mlp=mlp, **options))
    counts = count_parameters(model.config)
    built = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert (counts.trunk, counts.future_heads) == (built["blocks"], built["future_heads"])
    assert counts.unembedding == built["unembed"] + built["more_unembeds"]
    assert counts.total == sum(p.numel() for p in model.parameters())
    model(random_tokens()).sum().backward()
    assert counts.next_token == sum(p.numel() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("size", SIZES)
def test_paper_sizes_have_12_L_d_squared_parameters(size):
    config = ModelConfig(**SIZES[size], d_vocab=256, n_ctx=2048)
    assert count_parameters(config).non_embedding == pytest.approx(12 * config.n_layers * config.d_model**2, rel=0.01)


@pytest.mark.parametrize(
    ("size", "millions"), [("1M", 1), ("3M", 3), ("10M", 10), ("30M", 30), ("100M", 100), ("300M", 300), ("1B", 1000)]
)
def test_size_names_say_the_parameter_count(size, millions):
    config = ModelConfig(**SIZES[size], d_vocab=256, n_ctx=2048)
    assert count_parameters(config).non_embedding / 1e6 == pytest.approx(millions, rel=0.1)


@pytest.mark.parametrize("n_future", [1, 2, 4])
def test_control_layers_keeps_the_parameters_and_control_trunk_the_depth(n_future):
    layers = small_config(n_layers=5, n_future=n_future, control="layers")
    trunk = small_config(n_layers=5, n_future=n_future, control="trunk")
    one = small_config(n_layers=5)
    assert count_parameters(layers).total == count_parameters(one).total
    assert layers.next_token_depth == 5 - n_future + 1
    assert trunk.next_token_depth == one.next_token_depth == 5
    assert count_parameters(trunk).next_token == count_parameters(one).next_token


def test_open_vocabulary_is_refused():
    with pytest.raises(ValueError, match="give d_vocab and n_ctx"):
        count_parameters(ModelConfig())
