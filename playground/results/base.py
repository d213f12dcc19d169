"""Base of all results: conversion to plain JSON values and back, rows for a table, and the name of an attention head."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from playground.results.restoring import field_types, restore, sizes

Row = dict[str, str | int | float | None]
"""One row of a table: column name -> value."""
DIGITS = 5
"""Significant digits of stored array values."""
SMALLEST = 1e-290
"""Smaller absolute values are stored as zero: rounding scales a value up to `DIGITS` whole digits, which would overflow."""
Paths = Sequence[Sequence[int]]
"""For each offset the indices of the future heads on its path, in the order in which they run (`ModelConfig.paths`); empty
where every future head reads the trunk output directly."""
ResultT = TypeVar("ResultT", bound="Result")


@dataclass(frozen=True, order=True)
class Head:
    """One attention head: the hook name of its layer, and its index in that layer.

    >>> Head.parse("future_heads.0.3")
    Head(layer='future_heads.0', index=3)
    >>> str(Head("blocks.1", 2)), Head("blocks.1", 2).title, Head("future_heads.0", 3).short
    ('blocks.1.2', 'trunk 1, head 2', 'F1.3')
    """

    layer: str
    index: int

    @classmethod
    def parse(cls, name: str) -> "Head":
        """Read `blocks.1.2` or `future_heads.0.3`. Raises ValueError for anything else."""
        match = re.fullmatch(r"((?:blocks|future_heads)\.[0-9]{1,6})\.([0-9]{1,6})", name)
        if match is None:
            raise ValueError(
                f"'{name}' names no attention head; write layer and head, such as blocks.1.2 (trunk layer 1, head 2) "
                "or future_heads.0.3 (future head of offset 1, head 3)"
            )
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"{self.layer}.{self.index}"

    def comes_after(self, other: "Head", paths: Paths = ()) -> bool:
        """Whether this head can read what `other` writes.

        It can if `other` is in an earlier trunk layer, or if `other` is in the trunk and this head in a future head. For two
        future heads it can if `paths` runs through the one of `other` before the one of this head.
        """
        (kind, own), (other_kind, others) = ((head.layer.split(".")) for head in (self, other))
        if other_kind == "blocks":
            return kind == "future_heads" or int(own) > int(others)
        return kind == "future_heads" and bool(paths) and int(others) in paths[int(own)][:-1]

    @property
    def title(self) -> str:
        """Readable name: `trunk 1, head 2`. Future heads are numbered by their offset, from 1."""
        return f"{layer_title(self.layer)}, head {self.index}"

    @property
    def short(self) -> str:
        """Short name for figures: `T1.2` or `F1.3`."""
        kind, _, number = self.layer.partition(".")
        return f"F{int(number) + 1}.{self.index}" if kind == "future_heads" else f"T{number}.{self.index}"


def used_by(heads: Sequence[Head], offset: int, paths: Paths = ()) -> tuple[Head, ...]:
    """The heads that an offset depends on: those of the trunk, of its own future head, and of others on its path."""
    layers = {f"future_heads.{index}" for index in (paths[offset - 1] if paths else (offset - 1,))}
    return tuple(head for head in heads if head.layer.startswith("blocks.") or head.layer in layers)


def layer_title(layer: str) -> str:
    """Readable name of a layer: `blocks.0` is `trunk 0`, `future_heads.1` is `future head 2`."""
    kind, _, number = layer.partition(".")
    return f"future head {int(number) + 1}" if kind == "future_heads" else f"trunk {number}"


def heads_of(layers: Sequence[str], n_heads: int) -> tuple[Head, ...]:
    """Every head of the layers, in the order in which `[layer, head]` arrays are flattened."""
    return tuple(Head(layer, index) for layer in layers for index in range(n_heads))


@dataclass(frozen=True, kw_only=True)
class Result:
    """Base of all results: frozen dataclasses of numpy arrays, numbers, names and tuples of these."""

    sort_by: ClassVar[str] = ""
    """The column by which long tables are cut to their largest rows; empty: the last column."""
    dims: ClassVar[dict[str, str]] = {}
    """Names of the axes of arrays and lists, by field. Axes with one name have equal length; a number is a fixed length."""

    @property
    def note(self) -> str:
        """A remark on the whole table, such as the number of rows it is computed from; empty by default."""
        return ""

    def rows(self) -> list[Row]:
        """The result as rows of a table, one measured item per row."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: arrays as nested lists with 5 significant digits, None for NaN."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls: "type[ResultT]", values: dict[str, Any]) -> "ResultT":
        """Restore a result from the values that `to_dict` returned; unknown keys are ignored.

        Raises ValueError, naming the field, where a field without a default is missing or a value has the wrong type or size.
        """
        later = {item.name for item in dataclasses.fields(cls) if item.default is not dataclasses.MISSING}
        found: dict[str, Any] = {}
        for name, hint in field_types(cls).items():
            if name in values:
                try:
                    found[name] = restore(values[name], hint, _parse)
                except ValueError as error:
                    raise ValueError(f"its {name} {error}") from error
            elif name not in later:
                raise ValueError(f"it has no '{name}'")
        sizes(found, {name: letters for name, letters in cls.dims.items() if name in found})
        return cls(**found)

    @property
    def sizes(self) -> dict[str, int]:
        """The length of each named axis of `dims`."""
        return sizes(vars(self), self.dims)


@dataclass(frozen=True, kw_only=True)
class History(Generic[ResultT]):
    """Results of one probe during a training, in the order of the steps."""

    steps: tuple[int, ...]
    tokens: tuple[int, ...]
    results: tuple[ResultT, ...]


def history(rows: Sequence[dict[str, Any]], result: type[ResultT]) -> History[ResultT]:
    """Stored rows (`step`, `tokens` and the fields of a result) as a history. Raises ValueError as `Result.from_dict` does."""
    return History(
        steps=tuple(row["step"] for row in rows),
        tokens=tuple(row["tokens"] for row in rows),
        results=tuple(result.from_dict(row) for row in rows),
    )


def measured_mean(values: NDArray[np.float64], axis: int | None = None) -> NDArray[np.float64]:
    """Mean of the measured values: NaN entries are ignored, and the mean is NaN where all entries are.

    >>> measured_mean(np.array([[1.0, np.nan], [3.0, np.nan]]), axis=0)
    array([ 2., nan])
    """
    count = np.asarray((~np.isnan(values)).sum(axis=axis))
    return np.where(count > 0, np.nansum(values, axis=axis) / np.maximum(count, 1), np.nan)


def measured_spread(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Standard deviation of the measured values: NaN entries are ignored, as in `measured_mean`."""
    mean = np.expand_dims(measured_mean(values, axis), axis)
    return np.asarray(np.sqrt(measured_mean((values - mean) ** 2, axis)))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, Head):
        return str(value)
    if isinstance(value, float):
        return float(f"{value:.8g}") if np.isfinite(value) else None
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _plain_array(values: NDArray[Any]) -> Any:
    if not values.size and values.ndim > 1:
        return {"shape": list(values.shape)}  # nested lists lose the shape of an empty array
    if values.dtype.kind != "f":
        return values.tolist()
    finite, is_zero = np.isfinite(values), np.abs(values) < SMALLEST
    safe = np.where(finite & ~is_zero, values, 1.0).astype(np.float64)
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(safe))))
    rounded = np.where(is_zero, 0.0, np.round(safe * scale) / scale).astype(object)
    rounded[~finite] = None
    return rounded.tolist()


def _parse(value: Any, cls: type) -> Any:
    if cls is Head:
        if not isinstance(value, str):
            raise ValueError("names no attention head")
        return Head.parse(value)
    if not isinstance(value, dict):
        raise ValueError("is no object")
    return cls.from_dict(value)
