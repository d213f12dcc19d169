"""Converts stored plain values back into the fields of a result, and checks their types and sizes.

Every fault becomes a ValueError with a short reason; accepted values need no further checks.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from playground.text import is_whole

MOST_SIZE = 10**6
"""Longest axis of a stored empty array."""
MOST_TEXT = 10_000
"""Longest stored string, characters."""
Hint = Any


def restore(value: Any, hint: Hint, parse: Callable[[Any, type], Any]) -> Any:
    """Convert a plain value to the type `hint`; `parse(value, cls)` reads the classes of this package. Raises ValueError."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hasattr(origin, "__value__"):  # a named type alias, as NDArray is from numpy 2.5 on
        return restore(value, origin.__value__[args], parse)
    if origin is types.UnionType or origin is typing.Union:
        return None if value is None else restore(value, next(arg for arg in args if arg is not type(None)), parse)
    if origin is np.ndarray:
        return _array(value, typing.get_args(args[1])[0])
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError("is no list")
        if args[-1] is not Ellipsis and len(args) != len(value):
            raise ValueError(f"has {len(value)} entries in place of {len(args)}")
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(restore(item, one, parse) for item, one in zip(value, inner, strict=True))
    if origin is typing.Literal:
        if value not in args or type(value) is not type(args[args.index(value)]):
            raise ValueError(f"is none of {', '.join(map(str, args))}")
        return value
    return _scalar(value, hint) if hint in (float, int, bool, str) else parse(value, hint)


def _scalar(value: Any, hint: type) -> Any:
    if hint is float:
        if value is None:
            return float("nan")
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError("is no finite number")
        return float(value)
    if type(value) is not hint:
        raise ValueError(f"is no {hint.__name__}")
    if hint is int and abs(value) > 2**62:
        raise ValueError("is too large")
    if hint is str and (len(value) > MOST_TEXT or not is_whole(value)):
        raise ValueError("is no text of bounded length")
    return value


def _array(value: Any, dtype: type) -> Any:
    """A nested list as an array; null is NaN. Raises ValueError for ragged lists, other types and infinite numbers."""
    if isinstance(value, dict):
        return _empty(value, dtype)
    if not isinstance(value, list):
        raise ValueError("is no list")
    try:
        found = np.array(value)
    except (ValueError, OverflowError) as error:
        raise ValueError("is no regular array") from error
    if not found.size:
        return found.astype(dtype)
    if found.dtype == object:  # it contains nulls, or values that are no numbers
        if not {type(item) for item in found.ravel()} <= {int, float, type(None)}:
            raise ValueError("is no array of numbers")
        if np.issubdtype(dtype, np.floating):
            found = found.astype(np.float64)
    kinds = "iuf" if np.issubdtype(dtype, np.floating) else "iu" if np.issubdtype(dtype, np.integer) else "b"
    if found.dtype.kind not in kinds or np.isinf(found).any():
        raise ValueError("is no array of finite numbers" if "f" in kinds else "is no array of whole numbers")
    return found.astype(dtype)


def _empty(value: Mapping[str, Any], dtype: type) -> Any:
    shape = value.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size <= MOST_SIZE for size in shape):
        raise ValueError("is no array")
    if 0 not in shape or len(shape) > 8:
        raise ValueError("is no empty array")
    return np.zeros(shape, dtype)


def sizes(values: Mapping[str, Any], dims: Mapping[str, str]) -> dict[str, int]:
    """The length of each axis name in `dims`. Raises ValueError, naming the field, where two fields disagree.

    >>> sizes({"layers": ("blocks.0",), "scores": np.zeros((1, 4))}, {"layers": "layer", "scores": "layer head"})
    {'layer': 1, 'head': 4}
    """
    found: dict[str, int] = {}
    for field, letters in dims.items():
        value = values[field]
        if value is None:  # a field that older stored results do not have
            continue
        shape = value.shape if isinstance(value, np.ndarray) else (len(value),)
        names = letters.split()
        if len(shape) != len(names):
            raise ValueError(f"its {field} has {len(shape)} axes in place of {len(names)}")
        for name, size in zip(names, shape, strict=True):
            expected = int(name) if name.isdecimal() else found.setdefault(name, size)
            if expected != size:
                raise ValueError(f"its {field} has {size} entries for {name} in place of {expected}")
    return found


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields, by name."""
    hints = typing.get_type_hints(cls)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls)}
