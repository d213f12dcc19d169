"""Parameter counts of a model, by part."""

from dataclasses import dataclass

from playground.config import ModelConfig
from playground.config.future_heads import is_layer


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """Numbers of parameters per part of a model."""

    embedding: int
    """Token embeddings and, where learned, position embeddings."""
    trunk: int
    future_heads: int
    final_norm: int
    unembedding: int
    next_token_heads: int
    """Parameters of the future heads on the next token's path."""
    next_token_unembedding: int

    @property
    def total(self) -> int:
        return self.embedding + self.non_embedding + self.unembedding

    @property
    def non_embedding(self) -> int:
        """Trunk, future heads and final norm, about 12 n_layers d_model^2; the names of the paper's sizes count these."""
        return self.trunk + self.future_heads + self.final_norm

    @property
    def next_token(self) -> int:
        """Parameters that next-token prediction uses at inference, without everything that is off its path."""
        parts = (self.trunk, self.next_token_heads, self.final_norm)
        return self.embedding + sum(parts) + self.next_token_unembedding


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Parameter counts from the configuration alone; tests compare them with a built model.

    Raises ValueError when `d_vocab` or `n_ctx` is None.
    """
    if config.d_vocab is None or config.n_ctx is None:
        raise ValueError("parameters depend on the vocabulary and the context; give d_vocab and n_ctx")
    d = config.d_model
    norm = d * (2 if config.normalization == "LN" else 1)
    mlp = {"gated": 3 * d * config.d_mlp + norm, "gelu": 2 * d * config.d_mlp + norm, "none": 0}[config.mlp]
    layer = 4 * d * d + norm + mlp
    heads = [_future_head(config, index, layer, norm) for index in range(config.n_future)]
    unembeddings = config.n_future if config.unembedding == "replicated" else 1
    positions = config.n_ctx * d if config.positions == "standard" else 0
    return ParameterCount(
        embedding=config.d_vocab * d + positions,
        trunk=config.n_trunk_layers * layer,
        future_heads=sum(heads),
        final_norm=norm,
        unembedding=unembeddings * config.d_vocab * d,
        next_token_heads=sum(heads[index] for index in config.paths[0]),
        next_token_unembedding=config.d_vocab * d,
    )


def _future_head(config: ModelConfig, index: int, layer: int, norm: int) -> int:
    """Number of parameters of one future head, given those of a layer and of a norm."""
    square = config.d_model**2
    if config.future_heads == "hydra" and index:
        return 5 * config.d_model * config.d_mlp + 2 * norm
    if not is_layer(config.future_heads, index):
        return square + norm
    return layer + (2 * square + 2 * norm if config.future_heads == "sequential" and index else 0)
