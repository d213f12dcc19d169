"""The complete configuration of one training, saved as JSON and read back strictly."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playground.config.base import BaseConfig
from playground.config.checks import (
    check_fields,
    check_name,
    default_of,
    plain_problem,
    setting,
    short_value,
    strict,
)
from playground.config.clamp import ClampConfig
from playground.config.flops import steps_taken
from playground.config.model import NAMED, ModelConfig
from playground.config.training import OptimConfig, TrainConfig
from tasks.config import TaskConfig

MOST_SEED = 2**63 - 1
"""Largest seed that fits both a torch.Generator and a 64-bit table column."""
MOST_TASK_NAME = 100
PARTS: dict[str, type] = {
    "model": ModelConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "clamp": ClampConfig,
    "base": BaseConfig,
}
"""The parts of a configuration except the task, by field name."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Configuration of one training: task, model, optimizer, length, clamp, optional base, and seed."""

    task: TaskConfig = field(metadata={"experiment": True})
    model: ModelConfig = setting(default_factory=ModelConfig)
    optim: OptimConfig = setting(default_factory=OptimConfig)
    train: TrainConfig = setting(default_factory=TrainConfig)
    clamp: ClampConfig = setting(default_factory=ClampConfig)
    base: BaseConfig | None = setting(None, since="2026-11-25")
    """A finished next-token run on whose frozen trunk the future heads from offset 2 on are trained; None trains everything."""
    preset: str | None = setting(None, most=100, experiment=False)
    """The preset this configuration was derived from."""
    seed: int = setting(0, least=0, most=MOST_SEED, experiment=False)
    """The only source of randomness: determines the initial weights and the training data."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.preset is not None:
            check_name(self.preset, "preset", 100)
        if self.model.n_future >= self.task.n_ctx:
            raise ValueError(
                f"n_future {self.model.n_future} reaches past the task's context of {self.task.n_ctx} tokens; "
                f"write n_future <= {self.task.n_ctx - 1} or a longer n_ctx"
            )
        self._check_weights()
        self.clamp.check(self.model)
        if self.clamp.freeze_heads and self.train.parallel == "fsdp":
            raise ValueError(
                "freeze_heads does not work with sharded parameters (parallel 'fsdp'); write parallel 'ddp'"
            )
        if self.base is not None:
            self.base.check(self.model.n_future, self.model.future_heads)
            if self.model.control in ("flops", "detached"):
                raise ValueError(
                    f"on a base only the future heads are trained, so control '{self.model.control}' has no effect; write "
                    "control 'trunk' or 'layers'"
                )
            if self.optim.clip_by != "all":
                raise ValueError("on a base, offset 1 has no gradient to clip by; write clip_by 'all'")

    def _check_weights(self) -> None:
        """Check offset_weights: one for each offset, with something left to train and to clip by."""
        weights = self.train.offset_weights
        if weights and len(weights) != self.model.n_future:
            raise ValueError(
                f"offset_weights has an entry for {len(weights)} of {self.model.n_future} offsets; write one number for each"
            )
        if weights and self.optim.clip_by == "next_token" and not weights[0]:
            raise ValueError(
                "clip_by 'next_token' with weight 0 for offset 1 has no gradient to clip by; write clip_by 'all', or a weight"
            )
        if weights and self.base is not None and not any(weights[1:]):
            raise ValueError(
                "offset_weights are 0 from offset 2 on, and on a base offset 1 is not trained; write one of them above 0"
            )

    @property
    def steps(self) -> int:
        """Number of optimizer steps: `train.steps`, or under control `flops` the number of steps that costs as many FLOPs as
        `train.steps` of the n = 1 model. Raises ValueError under control `flops` before `resolve` (d_vocab is None)."""
        return steps_taken(self.model, self.train.steps)

    @property
    def probe_steps(self) -> tuple[int, ...]:
        """Steps at which probes run (`TrainConfig.probe_steps`)."""
        return self.train.probe_steps(self.steps)

    def resolve(self, *, d_vocab: int, n_ctx: int) -> "RunConfig":
        """A copy of this configuration with the task's vocabulary size and context length in the model."""
        model = dataclasses.replace(self.model, d_vocab=d_vocab, n_ctx=n_ctx)
        return dataclasses.replace(self, model=model)

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionary of plain values, ready for JSON; `from_dict` reads it back.

        A field of the task that was added after the task's first version is left out while it has its default, so that the
        result equals what older versions stored.
        """
        task = {"name": self.task.name, **dataclasses.asdict(self.task)}
        for item in dataclasses.fields(self.task):
            if item.metadata.get("since") and task[item.name] == default_of(item):
                del task[item.name]
        return {"task": task} | self.without_task()

    def without_task(self) -> dict[str, Any]:
        """`to_dict` without the task."""
        values = dataclasses.asdict(self)
        del values["task"]
        if self.base is None:  # versions without bases stored no such key, and the hash must not change
            del values["base"]
        return values

    @classmethod
    def from_dict(cls, values: Any) -> "RunConfig":
        """Read what `to_dict` wrote. Raises ValueError for everything else, naming the field and what to write instead."""
        from tasks.registry import config_class

        task, others = split_values(values)
        name = task.pop("name")
        return strict(cls, others | {"task": strict(config_class(name), task, "task")}, "run")

    def hash(self) -> str:
        """Eight hexadecimal digits, equal for equal configurations on every machine and in every version."""
        return hash_values(self.to_dict())

    def label(self) -> str:
        """Short name: preset or task, non-default objective, n_future, non-default types, control, clamp, base and seed."""
        usual = ModelConfig()
        others = [value for name in NAMED if (value := getattr(self.model, name)) != getattr(usual, name)]
        clamped = ["clamped"] if self.clamp != ClampConfig() else []
        on_base = ["on-base"] if self.base is not None else []
        objective = [self.train.objective] if self.train.objective != TrainConfig().objective else []
        parts = [
            self.preset or self.task.name,
            *objective,
            f"n{self.model.n_future}",
            *others,
            self.model.control,
            *clamped,
            *on_base,
        ]
        return "-".join([*parts, f"s{self.seed}"])


# --- configurations as plain values -------------------------------------------------------------------------------------


def hash_values(values: Mapping[str, Any]) -> str:
    """The hash of a configuration, from its `to_dict` or the contents of a stored config.json."""
    kept = {name: dict(part) if isinstance(part, Mapping) else part for name, part in values.items()}
    for place, item in fields_by_place().items():
        part, _, name = place.rpartition(".")
        inside = kept.get(part)
        if item.metadata.get("since") and isinstance(inside, dict) and _tuple(inside.get(name)) == default_of(item):
            inside.pop(name, None)
    base = kept.get("base")
    if isinstance(base, dict) and base.get("config_hash"):
        base.pop("run", None)  # its hash identifies the base, whose folder may move
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def _tuple(value: Any) -> Any:
    """Undo JSON's conversion of tuples to lists."""
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def fields_by_place() -> "dict[str, dataclasses.Field[Any]]":
    """Every field of a configuration except the task's, by its dotted name: `seed`, `model.n_layers`."""
    parts = {f"{part}.{item.name}": item for part, cls in PARTS.items() for item in dataclasses.fields(cls)}
    own = {item.name: item for item in dataclasses.fields(RunConfig) if item.name not in ("task", *PARTS)}
    return own | parts


def split_values(values: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plain values of the task, and the other fields with their parts as dataclasses.

    Raises ValueError for a wrong type, an unknown key or a value out of bounds.
    """
    if not isinstance(values, dict):
        raise ValueError(f"the configuration is {short_value(values)}; it must be a dictionary of its parts")
    others = dict(values)
    task = others.pop("task", {})
    if not isinstance(task, dict):
        raise ValueError(f"task is {short_value(task)}; it must be a dictionary of its fields")
    if "name" not in task:
        raise ValueError("the configuration names no task; write task: {name: ...}")
    if not isinstance(task["name"], str) or not 0 < len(task["name"]) <= MOST_TASK_NAME:
        raise ValueError(f"task.name is {short_value(task['name'])}; write the name of a task")
    for key, value in task.items():
        said = plain_problem(key) or plain_problem(value)
        if said:
            raise ValueError(f"task.{short_value(key)} is {short_value(value)}; {said}")
    try:
        task = json.loads(json.dumps(task))
    except TypeError as error:
        raise ValueError("task has a value that JSON cannot hold; write numbers, texts, lists, dictionaries") from error
    for part, cls in PARTS.items():
        if others.get(part) is not None or (part in others and part != "base"):
            others[part] = strict(cls, others[part], part)
    return task, others
