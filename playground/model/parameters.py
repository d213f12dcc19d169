"""Parameter counts of a model, by part."""

from dataclasses import dataclass

from playground.config import ModelConfig


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
    heads = [config.head_type.module(index).parameters(config) for index in range(config.n_future)]
    unembeddings = config.n_future if config.unembedding == "replicated" else 1
    positions = config.n_ctx * d if config.positions == "standard" else 0
    return ParameterCount(
        embedding=config.d_vocab * d + positions,
        trunk=config.n_trunk_layers * config.layer_parameters,
        future_heads=sum(heads),
        final_norm=config.norm_parameters,
        unembedding=unembeddings * config.d_vocab * d,
        next_token_heads=sum(heads[index] for index in config.paths[0]),
        next_token_unembedding=config.d_vocab * d,
    )
