"""One whole training as a configuration, saved as JSON and read back strictly."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playground.config.base import BaseConfig
from playground.config.checks import strict
from playground.config.clamp import ClampConfig
from playground.config.model import ModelConfig
from playground.config.training import OptimConfig, TrainConfig
from tasks.config import TaskConfig

LATER_FIELDS: dict[str, dict[str, Any]] = {
    "model": {"future_heads": "independent", "unembedding": "shared"},
    "train": {"accumulate": 1, "recompute": False, "graphs": True, "compiled": False, "parallel": "ddp"},
}
"""Fields that came later, with the values that say what was before: these leave hash and label as they were."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training: a task, a model, an optimizer, a length, a clamp, perhaps a base, and a seed."""

    task: TaskConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    clamp: ClampConfig = field(default_factory=ClampConfig)
    base: BaseConfig | None = None
    """A finished next-token run, on whose frozen trunk the future heads of offset 2 on are trained; None trains everything."""
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
        if self.clamp.freeze_heads and self.train.parallel == "fsdp":
            raise ValueError(
                "heads are frozen (freeze_heads), which sharded parameters cannot be; write parallel 'ddp'"
            )
        if self.base is not None:
            self.base.check(self.model.n_future, self.model.future_heads)

    def resolve(self, *, d_vocab: int, n_ctx: int) -> "RunConfig":
        """The same configuration with the task's vocabulary and context written into the model."""
        model = dataclasses.replace(self.model, d_vocab=d_vocab, n_ctx=n_ctx)
        return dataclasses.replace(self, model=model)

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionary of plain values, ready for JSON; `from_dict` reads it back."""
        values = dataclasses.asdict(self)
        values["task"] = {"name": self.task.name, **values["task"]}
        if self.base is None:  # as before there were bases
            del values["base"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunConfig":
        """Read what `to_dict` wrote. Raises ValueError for an unknown key, naming the nearest valid one."""
        from tasks.registry import config_class

        values = dict(values)
        for name in ("task", "model", "optim", "train", "clamp", "base"):
            if not isinstance(values.get(name, {}), dict):
                raise ValueError(f"{name} is {values[name]!r}; it must be a dictionary of its fields")
        task = dict(values.pop("task", {}))
        if "name" not in task:
            raise ValueError("the configuration names no task; write task: {name: ...}")
        parts = {"model": ModelConfig, "optim": OptimConfig, "train": TrainConfig, "clamp": ClampConfig}
        built: dict[str, Any] = {"task": strict(config_class(task.pop("name")), task, "task")}
        for name, part in parts.items():
            built[name] = strict(part, values.pop(name, {}), name)
        if "base" in values:
            built["base"] = strict(BaseConfig, values.pop("base"), "base")
        return strict(cls, values | built, "run")

    def hash(self) -> str:
        """Eight hexadecimal digits that stay the same for equal configurations, on every machine."""
        values = self.to_dict()
        for part, fields in LATER_FIELDS.items():
            for name, default in fields.items():
                if values[part][name] == default:
                    del values[part][name]
        if self.base is not None and self.base.config_hash:
            del values["base"]["run"]  # wherever it lies
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def label(self) -> str:
        """Short readable name: preset or task, n_future, control, seed, and what is not as usual: types, clamp, base."""
        usual = LATER_FIELDS["model"]
        others = [getattr(self.model, name) for name in usual if getattr(self.model, name) != usual[name]]
        clamped = ["clamped"] if self.clamp != ClampConfig() else []
        on_base = ["on-base"] if self.base is not None else []
        parts = [
            self.preset or self.task.name,
            f"n{self.model.n_future}",
            *others,
            self.model.control,
            *clamped,
            *on_base,
        ]
        return "-".join([*parts, f"s{self.seed}"])


def read_config(path: Path) -> RunConfig:
    """A configuration from a file as a run's folder holds it. Raises ValueError, with the path, for one that is none."""
    try:
        return RunConfig.from_dict(json.loads(path.read_text()))
    except OSError as error:
        raise ValueError(f"cannot read the configuration {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON (line {error.lineno}); write the config.json of a run") from error
