"""Strict reading of configurations: unknown keys, wrong types and impossible values raise, with what to write instead."""

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
"""Bound of integers without a bound of their own: a table column has 64 bits."""
MOST_CHARACTERS = 4096
"""Bound of the length of texts: the longest path that Linux allows."""
MOST_ENTRIES = 10_000
"""Bound of the size of tuples and dictionaries."""
MOST_DEPTH = 5
"""Bound of the nesting depth of tuples and dictionaries."""
MOST_NAMED = 30
"""Most names listed in an error message."""


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
    """A field of a configuration with its bounds and properties; `check_fields` checks the bounds.

    `least` and `most` are inclusive bounds, `above` and `below` exclusive ones; of texts and tuples they bound the length. Runs
    that differ only in fields with `experiment=False` repeat one experiment: such a field changes how the experiment is
    computed or observed. `since` is the date on which a field was added to a released format. Such a field is left out of the
    configuration's hash while it has its default, so that hashes of older runs stay valid. The default is the value that older
    runs had; `BEFORE` in playground/analysis/groups.py lists the exceptions.
    """
    bounds = {"least": least, "most": most, "above": above, "below": below}
    metadata = {**bounds, "experiment": experiment, "since": since}
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def default_of(item: "dataclasses.Field[Any]") -> Any:
    """The default of a field, or MISSING."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


# --- whole configurations -----------------------------------------------------------------------------------------------


def strict(cls: type[ConfigT], values: Any, where: str) -> ConfigT:
    """Build a configuration dataclass from a dictionary.

    Raises ValueError for unknown or missing keys, wrong types and values out of bounds; the message names the part of the
    configuration (`where`), the key and what to write instead.
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
    """Check types, choices and bounds of a configuration's own fields. Raises ValueError for the first wrong field."""
    hints = hints_of(type(config))
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        said = problem(value, hints[item.name], item)
        if said:
            raise ValueError(f"{item.name} is {short_value(value)}; {said}")


# --- one value ----------------------------------------------------------------------------------------------------------


def problem(value: Any, hint: Any, item: "dataclasses.Field[Any]") -> str:
    """What to write instead of a field's value; empty for a valid one."""
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
    """What is wrong with a value without a type hint, or an empty text: only sizes and nesting depth are checked.

    Numbers, texts and containers of them are checked; other values pass.
    """
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
    """Raises ValueError if `name`, the id of a run or the name of a preset, cannot be part of a folder name.

    >>> check_name("induction-cpu-n2.1", "run id")
    """
    if not isinstance(name, str) or len(name) > most or not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"{what} {short_value(name)} cannot name a folder; write letters, digits, '-', '_' and '.', at most {most}, and no "
            "'.' at the beginning"
        )


def nearest(name: Any, names: Iterable[str]) -> str:
    """End of an error message: the nearest valid name, or all valid names."""
    known = sorted(names)
    asked = name if isinstance(name, str) and len(name) <= 200 else ""
    close = difflib.get_close_matches(asked, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {listed(known)}"


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Names separated by commas; after the first `most`, only the number of further names."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
