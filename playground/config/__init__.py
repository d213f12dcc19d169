"""Everything that decides what a run computes: frozen, strict, and saved as JSON beside its results.

Sizes carry TransformerLens's names. `RunConfig.from_dict` refuses unknown keys and names the nearest valid one.
"""

from playground.config.base import BaseConfig
from playground.config.checks import nearest, strict
from playground.config.clamp import ClampConfig, select_heads
from playground.config.future_heads import FutureHeads, future_head_paths
from playground.config.model import (
    SIZES,
    Control,
    Mlp,
    ModelConfig,
    Normalization,
    Positions,
    Unembedding,
)
from playground.config.run import RunConfig, read_config
from playground.config.training import MOST_THREADS, OptimConfig, TrainConfig

__all__ = [
    "MOST_THREADS",
    "SIZES",
    "BaseConfig",
    "ClampConfig",
    "Control",
    "FutureHeads",
    "Mlp",
    "ModelConfig",
    "Normalization",
    "OptimConfig",
    "Positions",
    "RunConfig",
    "TrainConfig",
    "Unembedding",
    "future_head_paths",
    "nearest",
    "read_config",
    "select_heads",
    "strict",
]
