"""Training FLOPs from the configuration alone: the model FLOPs of Chowdhery et al. 2022 (PaLM, 2204.02311, appendix B), with
causal attention counted as half.

Model FLOPs are what the computation needs, not what a program performs: recomputed activations are not counted again.
"""

import dataclasses
import functools
from dataclasses import dataclass

from playground.config.model import ModelConfig


@dataclass(frozen=True, kw_only=True)
class FlopCount:
    """Training FLOPs per token and part; a multiplication and an addition are two."""

    matrices: float
    """Products with the matrices of trunk and future heads."""
    attention: float
    """Scores and weighted sums of values, below the diagonal."""
    unembedding: float
    """Logits, once for each offset."""

    @property
    def total(self) -> float:
        return self.matrices + self.attention + self.unembedding


def count_training_flops(config: ModelConfig) -> FlopCount:
    """Forward and backward pass of the n-token loss, per token of rows that are `n_ctx` long.

        matrices     6 P        P: elements of all matrices of trunk and future heads, each of which runs once
        attention    6 A T D    A: number of layers with attention, T: n_ctx, D: d_model
        unembedding  6 n D V    n: n_future, V: d_vocab

    A product with a matrix takes 2 operations per element forward and 4 backward (gradients of the input and of the matrix).
    Attention has two products, each of T D multiplications per token, half of them below the diagonal: 2 T D forward, 4 T D
    backward. Not counted: embedding look-up, norms, rotations, softmax and the optimizer. All parameters are trained.

    Raises ValueError when `d_vocab` or `n_ctx` is None.

    >>> count_training_flops(ModelConfig(n_layers=5, d_model=128, n_heads=4, d_vocab=256, n_ctx=256))
    FlopCount(matrices=5928960.0, attention=983040.0, unembedding=196608.0)
    """
    if config.d_vocab is None or config.n_ctx is None:
        raise ValueError("training FLOPs depend on the vocabulary and the context; give d_vocab and n_ctx")
    heads = sum(config.head_type.module(index).matrix_elements(config) for index in range(config.n_future))
    return FlopCount(
        matrices=6.0 * (config.n_trunk_layers * config.layer_elements + heads),
        attention=6.0 * len(config.attention_layers) * config.n_ctx * config.d_model,
        unembedding=6.0 * config.n_future * config.d_model * config.d_vocab,
    )


def training_flops_per_token(config: ModelConfig) -> float:
    """Sum of all parts of `count_training_flops`. Raises ValueError when `d_vocab` or `n_ctx` is None."""
    return count_training_flops(config).total


def steps_taken(config: ModelConfig, steps: int) -> int:
    """Number of steps that a training of nominally `steps` takes: fewer under control `flops` (`steps_of_equal_flops`)."""
    if config.control != "flops" or config.n_future == 1:
        return steps
    return steps_of_equal_flops(config, steps)


@functools.lru_cache(maxsize=256)
def steps_of_equal_flops(config: ModelConfig, steps: int) -> int:
    """Number of steps that cost as many FLOPs as `steps` steps of the n = 1 model: rounded, at least one.

    Raises ValueError when `d_vocab` or `n_ctx` is None.

    >>> config = ModelConfig(n_layers=5, d_model=128, n_heads=4, d_vocab=256, n_ctx=256, n_future=4, control="flops")
    >>> steps_of_equal_flops(config, 1000)
    600
    """
    one = training_flops_per_token(dataclasses.replace(config, n_future=1))
    return max(1, round(steps * one / training_flops_per_token(config)))
