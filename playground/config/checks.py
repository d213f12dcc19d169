"""Strict reading of configurations: unknown keys, wrong types and impossible values are refused, with what to write instead."""

import dataclasses
import difflib
import math
from typing import Any, Literal, TypeVar, get_type_hints

from beartype.door import is_bearable

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


def check_fields(config: Any) -> None:
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
