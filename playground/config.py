"""Everything that decides what a run computes: frozen, strict, and saved as JSON beside its results.

Sizes carry TransformerLens's names. `RunConfig.from_dict` refuses unknown keys and names the nearest valid one.
"""

import dataclasses
import difflib
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import tyro
from beartype.door import is_bearable

from tasks.config import TaskConfig

Control = Literal["layers", "trunk"]
Normalization = Literal["RMS", "LN"]
Positions = Literal["rotary", "standard"]
Mlp = Literal["gated", "gelu", "none"]

TaskVocabulary = Annotated[int | None, tyro.conf.Fixed, tyro.conf.arg(name="model-d-vocab")]
TaskContext = Annotated[int | None, tyro.conf.Fixed, tyro.conf.arg(name="model-n-ctx")]
"""Values that a run takes from its task, so that the command line does not offer them a second time."""

MOST_THREADS = 1024

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
    """Shape of an `MTPTransformer`: a trunk, and one future head (one layer) for each of `n_future` offsets."""

    n_layers: int = 2
    """Layers on the next-token path of the n = 1 model. What more offsets do to it, `control` decides."""
    n_heads: int = 4
    """Attention heads per layer."""
    d_model: int = 128
    """Width of the residual stream."""
    n_future: int = 1
    """How many tokens ahead are predicted; 1 is ordinary next-token training."""
    control: Control = "layers"
    """`layers`: n_layers in all, so that each further future head takes a layer from the trunk (the paper's).
    `trunk`: the trunk keeps n_layers - 1 layers, so that the next-token path is equally deep for every n_future."""
    mlp: Mlp = "gated"
    """`gated` (SiLU-gated, 8 d_model^2 parameters), `gelu` (4 d_model wide) or `none` (attention only)."""
    normalization: Normalization = "RMS"
    """RMSNorm or LayerNorm, before each sublayer and before the unembedding."""
    positions: Positions = "rotary"
    """Rotary, or learned (`standard`) position embeddings added to the token embeddings."""
    rotary_base: float = 10_000.0
    """Base of the rotary frequencies."""
    eps: float = 1e-5
    """Added to the variance in every normalisation."""
    d_vocab: TaskVocabulary = None
    """Number of tokens; None takes the task's."""
    n_ctx: TaskContext = None
    """Longest input; None takes the task's."""

    def __post_init__(self) -> None:
        _check_fields(self)
        for name in ("n_layers", "n_heads", "d_model", "n_future", "d_vocab", "n_ctx"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; write at least 1")
        if not self.eps > 0:
            raise ValueError(f"eps is {self.eps}; write a small number above 0, such as 1e-5")
        if not self.rotary_base > 1:
            raise ValueError(f"rotary_base is {self.rotary_base}; write a number above 1, such as 10000")
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
        if self.control == "layers" and self.n_future >= self.n_layers:
            raise ValueError(
                f"n_future {self.n_future} leaves no trunk of {self.n_layers} layers under control 'layers'; "
                f"write n_layers={self.n_future + 1} or more, a smaller n_future, or control='trunk'"
            )
        if self.n_ctx is not None and self.n_future >= self.n_ctx:
            raise ValueError(
                f"n_future {self.n_future} reaches past a context of {self.n_ctx} tokens; "
                f"write n_future <= {self.n_ctx - 1} or a longer context"
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
    def n_trunk_layers(self) -> int:
        """Layers that all offsets share."""
        return self.n_layers - (self.n_future if self.control == "layers" else 1)

    @property
    def next_token_depth(self) -> int:
        """Layers between the embedding and the next-token logits: the trunk's and one future head's."""
        return self.n_trunk_layers + 1


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay (defaults after the paper's tables S13 and S14)."""

    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises linearly from zero."""
    min_lr_ratio: float = 0.03
    """The cosine ends at this share of the peak."""
    weight_decay: float = 0.1
    """Decoupled weight decay, on matrices only."""
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    """Largest norm of the whole gradient."""

    def __post_init__(self) -> None:
        _check_fields(self)
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; write a learning rate above 0, such as 1e-3")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; write 0 or more")
        if not 0 <= self.min_lr_ratio <= 1:
            raise ValueError(f"min_lr_ratio is {self.min_lr_ratio}; write a share between 0 and 1")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; write 0 or more")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"beta1 {self.beta1} and beta2 {self.beta2} must be at least 0 and below 1")
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; write a gradient norm above 0, such as 1.0")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, on what device, and how often to look."""

    steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 64
    """Rows per step."""
    eval_every: int = 50
    """Steps between evaluations (test loss, task score)."""
    log_every: int = 10
    """Steps over which one row of training losses is averaged."""
    checkpoint_every: int = 200
    """Steps between checkpoints; a killed run goes on from the last one."""
    probes: tuple[str, ...] = ("attention", "task_attention", "composition", "behaviour")
    """Probes that run along training (playground/probes/registry.py lists all)."""
    probe_points: int = 64
    """At how many log-spaced steps they run, from step 1 to the last, and once before the first; 0 switches them off."""
    backward: Literal["per_head", "one_graph"] = "per_head"
    """`per_head` runs the future heads one after another, so that only one head's logits are in memory;
    `one_graph` is the plain sum of losses. Equal gradients."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU where there is one. On CUDA matrix products run in bfloat16, on the CPU in float32."""
    threads: int | None = None
    """CPU threads; None takes all cores. Numbers repeat exactly only with the same number of threads."""

    def __post_init__(self) -> None:
        _check_fields(self)
        for name in ("steps", "batch_size", "eval_every", "log_every", "checkpoint_every", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; write at least 1")
        if self.probe_points < 0:
            raise ValueError(f"probe_points is {self.probe_points}; write 0 (no probes) or more")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise ValueError(f"threads is {self.threads}; write at most {MOST_THREADS}, or None for all cores")

    @property
    def probe_steps(self) -> tuple[int, ...]:
        """Steps at which probes run: 0, then log-spaced whole steps up to the last; steps closer than 1 fall together.

        >>> TrainConfig(steps=1000, probe_points=4).probe_steps
        (0, 1, 10, 100, 1000)
        """
        if not self.probe_points or not self.probes:
            return ()
        last = max(1, self.probe_points - 1)
        spaced = {round(self.steps ** (point / last)) for point in range(self.probe_points)}
        return tuple(sorted({0, self.steps} | spaced))


@dataclass(frozen=True, kw_only=True)
class ClampConfig:
    """Attention patterns held fixed or forbidden from step 0, to see what forms without them (playground/model/clamp.py).

    Each field names heads: `all`, `trunk`, a layer (`blocks.0`, `future_heads.0`) or a head (`blocks.0.2`).
    """

    force_previous_token: tuple[str, ...] = ()
    """These heads attend to the token before, whatever their weights."""
    forbid_previous_token: tuple[str, ...] = ()
    """These heads cannot attend to the token before."""
    force_induction: tuple[str, ...] = ()
    """These heads attend to what followed earlier occurrences of the current token."""
    forbid_induction: tuple[str, ...] = ()
    """These heads cannot attend to what followed earlier occurrences of the current token."""
    freeze_heads: tuple[str, ...] = ()
    """These heads keep their initial weights."""

    def __post_init__(self) -> None:
        _check_fields(self)

    @property
    def changes_patterns(self) -> bool:
        """Whether any pattern is forced or forbidden."""
        forced = self.force_previous_token or self.force_induction
        return bool(forced or self.forbid_previous_token or self.forbid_induction)

    def check(self, model: ModelConfig) -> None:
        """Raises ValueError for a head that `model` does not have, or one that is forced to two things."""
        chosen = {item.name: select_heads(getattr(self, item.name), model) for item in dataclasses.fields(self)}
        for layer, heads in chosen["force_previous_token"].items():
            both = set(heads) & set(chosen["force_induction"].get(layer, ()))
            if both:
                raise ValueError(
                    f"force_previous_token and force_induction both name head {layer}.{min(both)}; leave it out of one"
                )


def select_heads(names: tuple[str, ...], model: ModelConfig) -> dict[str, list[int]]:
    """Layer -> heads that the names choose in a model. Raises ValueError for a name that chooses none.

    >>> select_heads(("blocks.0", "future_heads.0.1"), ModelConfig(n_layers=2, n_heads=2))
    {'blocks.0': [0, 1], 'future_heads.0': [1]}
    """
    trunk = [f"blocks.{layer}" for layer in range(model.n_trunk_layers)]
    layers = trunk + [f"future_heads.{index}" for index in range(model.n_future)]
    every = [(layer, head) for layer in layers for head in range(model.n_heads)]
    chosen: set[tuple[str, int]] = set()
    for name in names:
        found = [
            (layer, head)
            for layer, head in every
            if name in ("all", layer, f"{layer}.{head}") or (name == "trunk" and layer in trunk)
        ]
        if not found:
            raise ValueError(
                f"'{name}' names no attention head of this model; write all, trunk, one of {', '.join(layers)}, or a head "
                f"of one, such as {layers[0]}.0 (0 to {model.n_heads - 1})"
            )
        chosen.update(found)
    selected: dict[str, list[int]] = {}
    for layer, head in every:
        if (layer, head) in chosen:
            selected.setdefault(layer, []).append(head)
    return selected


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training: a task, a model, an optimizer, a length, a clamp and a seed."""

    task: TaskConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    clamp: ClampConfig = field(default_factory=ClampConfig)
    preset: str | None = None
    """The preset this configuration was derived from."""
    seed: int = 0
    """Decides the initialisation and the training data, and nothing else does."""

    def __post_init__(self) -> None:
        if self.model.n_future >= self.task.n_ctx:
            raise ValueError(
                f"n_future {self.model.n_future} reaches past the task's context of {self.task.n_ctx} tokens; "
                f"write n_future <= {self.task.n_ctx - 1} or a longer n_ctx"
            )
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; write 0 or more")
        self.clamp.check(self.model)

    def resolve(self, *, d_vocab: int, n_ctx: int) -> "RunConfig":
        """The same configuration with the task's vocabulary and context written into the model."""
        model = dataclasses.replace(self.model, d_vocab=d_vocab, n_ctx=n_ctx)
        return dataclasses.replace(self, model=model)

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionary of plain values, ready for JSON; `from_dict` reads it back."""
        values = dataclasses.asdict(self)
        values["task"] = {"name": self.task.name, **values["task"]}
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Read what `to_dict` wrote. Raises ValueError for an unknown key, naming the nearest valid one."""
        from tasks.registry import config_class

        values = dict(values)
        for name in ("task", "model", "optim", "train", "clamp"):
            if not isinstance(values.get(name, {}), dict):
                raise ValueError(f"{name} is {values[name]!r}; it must be a dictionary of its fields")
        task = dict(values.pop("task", {}))
        if "name" not in task:
            raise ValueError("the configuration names no task; write task: {name: ...}")
        parts = {"model": ModelConfig, "optim": OptimConfig, "train": TrainConfig, "clamp": ClampConfig}
        built: dict[str, Any] = {"task": strict(config_class(task.pop("name")), task, "task")}
        for name, part in parts.items():
            built[name] = strict(part, values.pop(name, {}), name)
        return strict(cls, values | built, "run")

    def hash(self) -> str:
        """Eight hexadecimal digits that stay the same for equal configurations, on every machine."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def label(self) -> str:
        """Short readable name: preset or task, n_future, control and seed."""
        clamped = "-clamped" if self.clamp != ClampConfig() else ""
        return f"{self.preset or self.task.name}-n{self.model.n_future}-{self.model.control}{clamped}-s{self.seed}"


ConfigT = TypeVar("ConfigT")


def strict(cls: type[ConfigT], values: dict[str, Any], where: str) -> ConfigT:
    """Build a configuration dataclass from a dictionary, refusing unknown keys and wrong types.

    Raises ValueError that names the key, the part of the configuration (`where`) and what to write instead.
    """
    hints = get_type_hints(cls)
    names = {item.name for item in dataclasses.fields(cls) if item.init}  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise ValueError(f"{where} has no field '{key}'{nearest(key, names)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise ValueError(f"{where}.{key} is {value!r}; it must be {_readable(hints[key])}")
    return cls(**values)


def nearest(name: str, names: "set[str] | list[str] | dict[str, Any]") -> str:
    """The end of an error sentence: the nearest valid name, or all of them."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(sorted(names))}"


def _check_fields(config: Any) -> None:
    """Types, choices and finite numbers of a configuration's own fields."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        choices = getattr(hint, "__args__", ()) if getattr(hint, "__origin__", None) is Literal else ()
        if choices and value not in choices:
            raise ValueError(f"{name} is {value!r}; write one of {', '.join(map(repr, choices))}")
        if not _fits(value, hint):
            raise ValueError(f"{name} is {value!r}; it must be {_readable(hint)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; write a finite number")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; a whole number passes for a float, and True is no number."""
    if isinstance(value, bool):
        return hint is bool
    return is_bearable(value, hint) or (isinstance(value, int) and is_bearable(1.0, hint))


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
