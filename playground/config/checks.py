"""Strict reading of configurations: unknown keys, wrong types and impossible values are refused, with what to write instead."""

import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Literal, TypeVar, get_origin

from playground.config.values import fits, hints_of, readable, short_value
from playground.text import is_whole

__all__ = [
    "check_fields",
    "check_name",
    "fits",
    "listed",
    "nearest",
    "plain_problem",
    "readable",
    "setting",
    "short_value",
    "strict",
]

ConfigT = TypeVar("ConfigT")
MOST_INTEGER = 2**63 - 1
"""What fits the 64 bits of a column of a table, for numbers of which nothing else is said."""
MOST_CHARACTERS = 4096
"""Of texts: the longest path that Linux takes."""
MOST_ENTRIES = 10_000
"""Of tuples and dictionaries."""
MOST_DEPTH = 5
"""How deep they may be nested."""
MOST_NAMED = 30
"""Names that an error sentence lists."""


def setting(
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Any = dataclasses.MISSING,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    experiment: bool = True,
    since: str = "",
) -> Any:
    """A field of a configuration, which says once all that is to be known of it; `check_fields` reads the bounds.

    `least` and `most` belong to the range, `above` and `below` do not; of texts and tuples they bound the length. Two runs that
    differ in fields with `experiment=False` alone repeat one experiment: these change how it is computed or looked at. `since`
    is the day on which a field was added. Such a field does not enter the hash of a configuration while it has its default. The
    default is what older runs had; `BEFORE` in playground/analysis/groups.py lists the exceptions.
    """
    bounds = {"least": least, "most": most, "above": above, "below": below}
    metadata = {**bounds, "experiment": experiment, "since": since}
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def default_of(item: "dataclasses.Field[Any]") -> Any:
    """The default of a field, MISSING where it has none."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


# --- whole configurations -----------------------------------------------------------------------------------------------


def strict(cls: type[ConfigT], values: Any, where: str) -> ConfigT:
    """Build a configuration dataclass from a dictionary, refusing unknown keys, wrong types and values out of bounds.

    Raises ValueError that names the key, the part of the configuration (`where`) and what to write instead.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {short_value(values)}; it must be a dictionary of its fields")
    known = {item.name: item for item in dataclasses.fields(cls) if item.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ValueError(f"{where} has no field {short_value(key)}{nearest(key, known)}")
    missing = [name for name, item in known.items() if name not in values and default_of(item) is dataclasses.MISSING]
    if missing:
        raise ValueError(f"{where} has no '{missing[0]}', which has no default; write it")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    hints = hints_of(cls)
    for key, value in values.items():
        said = problem(value, hints[key], known[key])
        if said:
            raise ValueError(f"{where}.{key} is {short_value(value)}; {said}")
    return cls(**values)


def check_fields(config: Any) -> None:
    """Types, choices and bounds of a configuration's own fields. Raises ValueError for the first one that is wrong."""
    hints = hints_of(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        said = problem(value, hints[item.name], item)
        if said:
            raise ValueError(f"{item.name} is {short_value(value)}; {said}")


# --- one value ----------------------------------------------------------------------------------------------------------


def problem(value: Any, hint: Any, item: "dataclasses.Field[Any]") -> str:
    """What to write in place of a field's value; empty for a good one."""
    if not fits(value, hint):
        return f"{'write' if get_origin(hint) is Literal else 'it must be'} {readable(hint)}"
    if isinstance(value, str):
        return _text_problem(value, item.metadata)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_problem(value, item)
    most = item.metadata.get("most")
    if isinstance(value, Sized) and most is not None and len(value) > most:
        return f"write at most {most} entries"
    return plain_problem(value)


def plain_problem(value: Any, depth: int = MOST_DEPTH) -> str:
    """What is wrong with a value of which only its size is bounded; numbers, texts and what contains them are looked at."""
    if isinstance(value, str):
        return _text_problem(value, {})
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_problem(value, dataclasses.field())
    if not isinstance(value, Mapping | tuple | list | set | frozenset):
        return ""
    if not depth:
        return "it is nested too deeply"
    if len(value) > MOST_ENTRIES:
        return f"write at most {MOST_ENTRIES} entries"
    entries: Iterable[Any] = itertools.chain(value, value.values()) if isinstance(value, Mapping) else value
    return next((said for said in (plain_problem(entry, depth - 1) for entry in entries) if said), "")


def _number_problem(value: float, item: "dataclasses.Field[Any]") -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "write a finite number"
    usual = MOST_INTEGER if isinstance(value, int) else None
    least, most, above, below = map(item.metadata.get, ("least", "most", "above", "below"))
    least = -usual if least is None and usual else least
    most = usual if most is None else most
    if least is not None and value < least:
        return f"write at least {_plainly(least)}"
    if most is not None and value > most:
        return f"write at most {_plainly(most)}"
    if above is not None and value <= above:
        return f"write a number above {_plainly(above)}{_such_as(item)}"
    if below is not None and value >= below:
        return f"write a number below {_plainly(below)}{_such_as(item)}"
    return ""


def _plainly(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _such_as(item: "dataclasses.Field[Any]") -> str:
    return "" if item.default in (None, dataclasses.MISSING) else f", such as {item.default}"


def _text_problem(value: str, bounds: Mapping[str, Any]) -> str:
    least, most = bounds.get("least") or 0, bounds.get("most") or MOST_CHARACTERS
    if len(value) < least:
        return f"write at least {least} character{'s' if least > 1 else ''}"
    if len(value) > most:
        return f"write at most {most} characters"
    if "\0" in value or not is_whole(value):
        return "write text that UTF-8 can hold, without NUL characters"
    return ""


# --- names --------------------------------------------------------------------------------------------------------------


def check_name(name: Any, what: str, most: int = 200) -> None:
    """Raises ValueError for what cannot be, or be part of, the name of a folder: the id of a run, or a preset's name.

    >>> check_name("induction-cpu-n2.1", "run id")
    """
    if not isinstance(name, str) or len(name) > most or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{what} {short_value(name)} cannot name a folder; write letters, digits, '-', '_' and '.', at most {most}, and no "
            "'.' at the beginning"
        )


def nearest(name: Any, names: Iterable[str]) -> str:
    """The end of an error sentence: the nearest valid name, or the valid names."""
    known = sorted(names)
    asked = name if isinstance(name, str) and len(name) <= 200 else ""
    close = difflib.get_close_matches(asked, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {listed(known)}"


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Names with commas between; of many the first ones, and how many more there are."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
