"""The registry of objectives by name. Every module in this folder that defines `OBJECTIVE` is an objective; there is no list.

`OBJECTIVE` is a subclass of `Objective`. One that is defined elsewhere (such as in a notebook) is added with
`register_objective`.
"""

import dataclasses
import importlib
import json
import pkgutil
from collections.abc import Sequence
from typing import Any

import playground.training.objectives as package
from playground.config import RunConfig, TrainConfig, nearest, short_value, strict
from playground.config.values import hints_of
from playground.training.objectives.base import DECODING, FEATURES, Objective

_registered: dict[str, type[Objective]] = {}


def _shipped() -> dict[str, type[Objective]]:
    modules = [
        importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    ]
    found = [module.OBJECTIVE for module in modules if hasattr(module, "OBJECTIVE")]
    return {_sound(cls).name: cls for cls in found}


def register_objective(cls: type[Objective]) -> None:
    """Register an objective that is defined outside of this folder, under `cls.name`.

    Raises ValueError when the name is taken by another class.
    """
    known = (_shipped() | _registered).get(_sound(cls).name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ValueError(f"the objective name '{cls.name}' is taken by {known.__qualname__}; choose another name")
    _registered[cls.name] = cls


def objective_names() -> list[str]:
    """Names of all objectives, sorted."""
    return sorted(_shipped() | _registered)


def describe_objectives() -> list[str]:
    """A line for each objective: name, summary, and its settings with their defaults."""
    known = _shipped() | _registered
    width = max(map(len, known))
    lines: list[str] = []
    for name, cls in sorted(known.items()):
        settings = ", ".join(_written(item.name, getattr(cls(), item.name)) for item in dataclasses.fields(cls))  # type: ignore[arg-type]
        lines.append(f"{name:{width}}  {cls.summary}" + (f" Settings: {settings}" if settings else ""))
    return lines


def make_objective(name: str, settings: Sequence[str] = ()) -> Objective:
    """An objective from its name and its settings, each as text: `smoothing=0.1`.

    Raises ValueError for an unknown name or setting, with the nearest one, and for an impossible value.
    """
    known = _shipped() | _registered
    if name not in known:
        raise ValueError(
            f"there is no objective {short_value(name)}{nearest(name, known)} (an objective of your own: a file in "
            "playground/training/objectives, or register_objective(Objective) first)"
        )
    values: dict[str, Any] = {}
    for text in settings:
        field, equals, value = text.partition("=")
        if not equals or field in values:
            raise ValueError(
                f"objective_settings has {short_value(text)}; write NAME=VALUE, such as smoothing=0.1, each name once"
            )
        values[field] = _read(value)
    return strict(known[name], values, f"objective {name}")


def objective_of(train: TrainConfig) -> Objective:
    """The objective that a configuration names. Raises ValueError as `make_objective` does."""
    return make_objective(train.objective, train.objective_settings)


def with_objective(config: RunConfig, *, processes: int = 1) -> RunConfig:
    """The configuration with the settings of its objective in one form: defaults left out, in the order of the fields.

    Raises ValueError for an unknown objective or setting, and for what the objective cannot train (`Objective.check`).
    """
    objective = objective_of(config.train)
    objective.check(config, processes=processes)
    hints = hints_of(type(objective))
    settings = tuple(
        _written(item.name, float(value) if hints[item.name] is float else value)
        for item in dataclasses.fields(objective)  # type: ignore[arg-type]
        if (value := getattr(objective, item.name)) != item.default
    )
    if settings == config.train.objective_settings:
        return config
    return dataclasses.replace(config, train=dataclasses.replace(config.train, objective_settings=settings))


def _sound(cls: type[Objective]) -> type[Objective]:
    """Raises ValueError for an objective without a needed part, or with a reason for something that is not asked."""
    if not (isinstance(cls, type) and issubclass(cls, Objective) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"OBJECTIVE is {short_value(cls)}; write a dataclass that is a subclass of Objective")
    for name in ("name", "summary", "source"):
        if not isinstance(getattr(cls, name, None), str):
            raise ValueError(f"{cls.__qualname__} has no {name}; write it as a text: {name}: ClassVar[str] = ..")
    for reasons, known in ((cls.cannot, FEATURES), (cls.unfit_decoding, DECODING)):
        for name in reasons:
            if name not in known:
                raise ValueError(f"{cls.__qualname__} has a reason for {short_value(name)}{nearest(name, known)}")
    for item in dataclasses.fields(cls):
        if item.default is dataclasses.MISSING:
            raise ValueError(f"{cls.__qualname__}.{item.name} has no default; write one with setting(..)")
    names = cls().loss_names(2)
    if (
        not names
        or len(set(names)) < len(names)
        or not all(len(name) > 5 and name.startswith("loss_") for name in names)
    ):
        raise ValueError(f"{cls.__qualname__} names its losses {names}; write different names that begin with loss_")
    return cls


def _read(text: str) -> Any:
    """The value of a setting: a number, true or false, or else the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


def _written(name: str, value: Any) -> str:
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
