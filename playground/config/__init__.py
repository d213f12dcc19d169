"""Everything that determines what a run computes: frozen, strict, and saved as JSON with its results.

Sizes have TransformerLens's names. `RunConfig.from_dict` rejects unknown keys and names the nearest valid one.
"""

from playground.config.base import BaseConfig
from playground.config.checks import check_name, listed, nearest, setting, short_value, strict
from playground.config.clamp import ClampConfig, select_heads
from playground.config.future_heads import (
    FutureHeads,
    future_head_names,
    future_head_paths,
    future_head_type,
    register_future_heads,
)
from playground.config.model import (
    NAMED,
    SIZES,
    Control,
    Init,
    Mlp,
    ModelConfig,
    Normalization,
    Positions,
    Unembedding,
)
from playground.config.run import MOST_SEED, RunConfig, fields_by_place, hash_values
from playground.config.stored import read_values
from playground.config.training import MOST_THREADS, OptimConfig, TrainConfig

__all__ = [
    "MOST_SEED",
    "MOST_THREADS",
    "NAMED",
    "SIZES",
    "BaseConfig",
    "ClampConfig",
    "Control",
    "FutureHeads",
    "Init",
    "Mlp",
    "ModelConfig",
    "Normalization",
    "OptimConfig",
    "Positions",
    "RunConfig",
    "TrainConfig",
    "Unembedding",
    "check_name",
    "fields_by_place",
    "future_head_names",
    "future_head_paths",
    "future_head_type",
    "hash_values",
    "listed",
    "nearest",
    "read_values",
    "register_future_heads",
    "select_heads",
    "setting",
    "short_value",
    "strict",
]
