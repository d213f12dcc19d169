"""Counted FLOPs against what torch counts while a small model is trained."""

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from playground.config import SIZES, ModelConfig
from playground.config.flops import count_training_flops, training_flops_per_token
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.training.objectives.n_token import NToken
from tests.cases import MODEL_OPTIONS, TYPE_OPTIONS, make_batch, random_tokens, small_config

ROWS = 2


def counted(config: ModelConfig) -> float:
    """torch's count per token. Its attention goes over the whole square, in plain matrix products.

    It cannot count the loss head by head, which calls `autograd.grad`.
    """
    model = MTPTransformer(config)
    tokens = random_tokens(ROWS, config.n_ctx, config.d_vocab)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        NToken().one_graph(model, make_batch(tokens)).total.backward()
    return counter.get_total_flops() / tokens.numel()


def on_the_whole_square(config: ModelConfig) -> float:
    count = count_training_flops(config)
    return count.total + count.attention


@pytest.mark.parametrize("n_future", [1, 2, 4])
@pytest.mark.parametrize("control", ["layers", "trunk"])
def test_count_equals_torchs_for_every_n(n_future, control):
    config = small_config(n_layers=5, n_future=n_future, control=control)
    assert on_the_whole_square(config) == pytest.approx(counted(config))


@pytest.mark.parametrize("options", TYPE_OPTIONS, ids=str)
def test_count_equals_torchs_for_every_type_of_future_heads(options):
    config = small_config(n_layers=5, n_future=3, **options)
    assert on_the_whole_square(config) == pytest.approx(counted(config))


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=str)
def test_count_equals_torchs_for_every_layer(options):
    config = small_config(n_future=2, **options)
    assert on_the_whole_square(config) == pytest.approx(counted(config))


@pytest.mark.parametrize("size", SIZES)
def test_at_n_1_it_is_six_times_the_parameters_and_attention(size):
    config = ModelConfig(**SIZES[size], d_vocab=256, n_ctx=1024)
    parameters = count_parameters(config)
    attention = 6 * config.n_layers * 1024 * config.d_model
    products = parameters.non_embedding + parameters.unembedding
    assert training_flops_per_token(config) == pytest.approx(6 * products + attention, rel=0.002)


def test_equal_layers_cost_an_unembedding_per_further_offset():
    one, four = (small_config(n_layers=5, n_future=n_future) for n_future in (1, 4))
    more = training_flops_per_token(four) - training_flops_per_token(one)
    assert more == 3 * 6 * 16 * 11


def test_open_vocabulary_is_refused():
    with pytest.raises(ValueError, match="give d_vocab and n_ctx"):
        training_flops_per_token(ModelConfig())
