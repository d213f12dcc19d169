"""How many parameters a model has, part by part."""

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
    one_head: int

    @property
    def total(self) -> int:
        return self.embedding + self.non_embedding + self.unembedding

    @property
    def non_embedding(self) -> int:
        """Trunk, future heads and final norm: what the paper's size names count, about 12 n_layers d_model^2."""
        return self.trunk + self.future_heads + self.final_norm

    @property
    def next_token(self) -> int:
        """What next-token prediction uses at inference when every future head but the first is dropped."""
        return self.embedding + self.trunk + self.final_norm + self.unembedding + self.one_head


def count_parameters(config: ModelConfig) -> ParameterCount:
    """Count from the configuration alone; tests hold it equal to a built model's.

    Raises ValueError when the configuration leaves `d_vocab` or `n_ctx` open.
    """
    if config.d_vocab is None or config.n_ctx is None:
        raise ValueError("parameters depend on the vocabulary and the context; give d_vocab and n_ctx")
    d = config.d_model
    norm = d * (2 if config.normalization == "LN" else 1)
    mlp = {"gated": 3 * d * config.d_mlp + norm, "gelu": 2 * d * config.d_mlp + norm, "none": 0}[config.mlp]
    layer = 4 * d * d + norm + mlp
    positions = config.n_ctx * d if config.positions == "standard" else 0
    return ParameterCount(
        embedding=config.d_vocab * d + positions,
        trunk=config.n_trunk_layers * layer,
        future_heads=config.n_future * layer,
        final_norm=norm,
        unembedding=config.d_vocab * d,
        one_head=layer,
    )
