"""The shape of a model, and the paper's sizes."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from playground.config.checks import check_fields, setting
from playground.config.future_heads import DEFAULT, FutureHeads, TypeDescription, future_head_type

Control = Literal["layers", "trunk", "flops", "detached"]
Normalization = Literal["RMS", "LN"]
Positions = Literal["rotary", "standard"]
Mlp = Literal["gated", "gelu", "none"]
Unembedding = Literal["shared", "replicated"]
Init = Literal["fan_in_scaled", "normal", "normal_scaled"]

TaskVocabulary = Annotated[int | None, tyro.conf.Fixed, tyro.conf.arg(name="model-d-vocab")]
TaskContext = Annotated[int | None, tyro.conf.Fixed, tyro.conf.arg(name="model-n-ctx")]
"""Values that a run takes from its task; the command line does not offer them again as options of the model."""

INIT_STD = 0.02
"""The value of GPT and GPT-2."""
NAMED = ("future_heads", "unembedding")
"""Fields whose value is part of a label when it is not the default; without meaning for a model with one offset."""

SIZES: dict[str, dict[str, int]] = {
    "1M": {"d_model": 128, "n_layers": 5, "n_heads": 4},
    "3M": {"d_model": 256, "n_layers": 4, "n_heads": 8},
    "10M": {"d_model": 384, "n_layers": 6, "n_heads": 8},
    "30M": {"d_model": 512, "n_layers": 10, "n_heads": 8},
    "100M": {"d_model": 768, "n_layers": 14, "n_heads": 12},
    "300M": {"d_model": 1024, "n_layers": 25, "n_heads": 16},
    "1B": {"d_model": 1536, "n_layers": 36, "n_heads": 24},
}
"""The paper's model sizes (Gloeckle et al. 2024, tables S13 and S14), by their number of non-embedding parameters."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of an `MTPTransformer`: a trunk, and one future head for each of `n_future` offsets."""

    n_layers: int = setting(2, least=1, most=1000)
    """Layers on the next-token path of the n = 1 model; `control` says how further offsets change it."""
    n_heads: int = setting(4, least=1, most=1000)
    """Attention heads per layer."""
    d_model: int = setting(128, least=1, most=100_000)
    """Width of the residual stream."""
    n_future: int = setting(1, least=1, most=256)
    """Number of future tokens predicted; 1 is ordinary next-token training."""
    control: Control = setting("layers")
    """`layers`: n_layers in all, so that each further future head takes a layer from the trunk (as in the paper).
    `trunk`: the trunk keeps n_layers - 1 layers, so that the next-token path is equally deep for every n_future.
    `flops`: the model of `trunk`, trained for the number of steps that costs as many FLOPs as `steps` of the n = 1 model.
    `detached`: the model of `trunk`; offsets from 2 on send no gradient into the trunk and the next token's future head."""
    future_heads: FutureHeads = setting(DEFAULT, since="2026-11-25")
    """Type of the future heads; each has a file in playground/model/future_heads. `independent`: one layer for each offset, all
    on the trunk's output."""
    unembedding: Unembedding = setting("shared", since="2026-11-25")
    """`shared`: one unembedding for all offsets. `replicated`: one for each."""
    mlp: Mlp = setting("gated")
    """`gated` (SiLU-gated, 8 d_model^2 parameters), `gelu` (4 d_model wide) or `none` (attention only)."""
    normalization: Normalization = setting("RMS")
    """RMSNorm or LayerNorm, before each sublayer and before the unembedding."""
    positions: Positions = setting("rotary")
    """Rotary, or learned (`standard`) position embeddings added to the token embeddings."""
    rotary_base: float = setting(10_000.0, above=1, most=1e12)
    """Base of the rotary frequencies."""
    eps: float = setting(1e-5, above=0, most=1)
    """Added to the variance in every normalisation."""
    init: Init = setting("fan_in_scaled", since="2026-11-30")
    """Initial weights, all normal (playground/model/init.py). `fan_in_scaled`: standard deviation 1 / sqrt(inputs), and outputs
    into the residual stream divided by sqrt(2 n_layers). `normal`: init_std everywhere. `normal_scaled`: init_std, and outputs
    into the residual stream divided by sqrt(2 n_layers)."""
    init_std: float = setting(INIT_STD, above=0, most=100, since="2026-11-30")
    """Standard deviation of `normal` and `normal_scaled` initial weights."""
    d_vocab: TaskVocabulary = setting(None, least=1, most=10_000_000, experiment=False)
    """Vocabulary size; None takes the task's."""
    n_ctx: TaskContext = setting(None, least=1, most=1_000_000, experiment=False)
    """Longest input; None takes the task's."""

    def __post_init__(self) -> None:
        check_fields(self)
        future_head_type(self.future_heads)
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}; "
                f"write d_model={self.n_heads * math.ceil(self.d_model / self.n_heads)} or another n_heads"
            )
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(
                f"rotary positions need an even d_head, and d_model / n_heads is {self.d_head}; "
                "write another n_heads or positions='standard'"
            )
        self._check_trunk()
        self._check_detached()
        if self.init == "fan_in_scaled" and self.init_std != INIT_STD:
            raise ValueError(
                f"init_std {self.init_std:g} has no effect with init 'fan_in_scaled'; write init='normal' or "
                "init='normal_scaled', or leave init_std out"
            )
        if self.n_ctx is not None and self.n_future >= self.n_ctx:
            raise ValueError(
                f"n_future {self.n_future} reaches past a context of {self.n_ctx} tokens; "
                f"write n_future <= {self.n_ctx - 1} or a longer context"
            )

    def _check_detached(self) -> None:
        """Control `detached` needs a next-token path without the future head of another offset."""
        if self.control == "detached" and len(self.paths[0]) > 1:
            raise ValueError(
                f"control 'detached' needs a next-token path without other future heads, and with {self.future_heads} future "
                "heads it runs through them; write another control or another type of future heads"
            )

    def _check_trunk(self) -> None:
        """Under control `layers` the trunk needs at least one layer; under the others it may have none."""
        least = 1 if self.control == "layers" else 0
        if self.n_trunk_layers >= least:
            return
        taken = self.n_layers - self.n_trunk_layers
        n_layers, smaller = f"n_layers={taken + least} or more", "a smaller n_future"
        fewer = taken > sum(self.head_type.module(index).has_attention for index in self.head_type.paths(1)[0])
        instead = [n_layers, smaller] if fewer else [n_layers]
        if self.control == "layers" and self.n_layers >= self._layers_taken("trunk"):
            instead.append("control='trunk'")
        of_type = "" if self.future_heads == DEFAULT else f" of {self.future_heads} future heads"
        raise ValueError(
            f"n_future {self.n_future}{of_type} leaves no trunk of {self.n_layers} layers under control '{self.control}'; "
            f"write {', '.join(instead[:-1])}{', or ' if len(instead) > 2 else ' or ' if instead[1:] else ''}{instead[-1]}"
        )

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def d_mlp(self) -> int:
        """Hidden width of the MLP: 4 d_model, or for the gated one 8/3 d_model rounded up to a multiple of 8."""
        return 8 * math.ceil(self.d_model / 3) if self.mlp == "gated" else 4 * self.d_model

    @property
    def layer_elements(self) -> int:
        """Number of elements of a layer's matrices."""
        mlp = {"gated": 3 * self.d_mlp, "gelu": 2 * self.d_mlp, "none": 0}[self.mlp]
        return (4 * self.d_model + mlp) * self.d_model

    @property
    def norm_parameters(self) -> int:
        """Number of parameters of one norm."""
        return self.d_model * (2 if self.normalization == "LN" else 1)

    @property
    def layer_parameters(self) -> int:
        """Number of parameters of one layer: matrices, and a norm before each sublayer."""
        return self.layer_elements + self.norm_parameters * (1 if self.mlp == "none" else 2)

    @property
    def n_trunk_layers(self) -> int:
        """Number of layers that all offsets share."""
        return self.n_layers - self._layers_taken(self.control)

    def _layers_taken(self, control: Control) -> int:
        """Number of future heads counted in n_layers: all under control `layers`, else those on the next-token path."""
        counted = range(self.n_future) if control == "layers" else self.paths[0]
        return sum(self.head_type.module(index).has_attention for index in counted)

    @property
    def head_type(self) -> TypeDescription:
        """The type of the future heads."""
        return future_head_type(self.future_heads)

    @property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """For each offset, the indices of the future heads that it runs through, in order of execution."""
        return self.head_type.paths(self.n_future)

    @property
    def attention_layers(self) -> tuple[str, ...]:
        """Hook names of all layers with attention, the trunk's first: `blocks.0`, .., `future_heads.0`, ..

        Future heads without attention are not included.
        """
        own = (index for index in range(self.n_future) if self.head_type.module(index).has_attention)
        return (
            *(f"blocks.{layer}" for layer in range(self.n_trunk_layers)),
            *(f"future_heads.{index}" for index in own),
        )

    @property
    def next_token_depth(self) -> int:
        """Number of layers between the embedding and the next-token logits: trunk, and future heads on the path."""
        return self.n_trunk_layers + self._layers_taken("trunk")
