"""The base class of every task's configuration, and the check of its fields.

Imports no torch, so that stored configurations can be read without it.
"""

import dataclasses
import reprlib
import types
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

MOST_CONTEXT = 2**16
"""Longest row of a task, in tokens."""
MOST_VOCAB = 2**16
"""Most different tokens of a task."""
MOST_SEED = 2**63 - 1
"""Largest seed that a generator takes."""
MOST_TEST_TOKENS = 2**26
"""Most tokens in a fixed test set."""
MOST_CHARACTERS = 4096
"""Longest text in a field, in characters."""
MOST_ITEMS = 100
"""Most entries of a list in a field."""

_KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text", types.NoneType: "None"}


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Base class of every task's configuration; `name` is the task's name for `make_task` and the command line."""

    name: ClassVar[str]

    n_ctx: int = 64
    """Context length: tokens in one row."""

    @property
    def reads_text(self) -> bool:
        """True if the task reads files."""
        return False


_BOUNDS: dict[type[TaskConfig], dict[str, tuple[float, float]]] = {}


def field_bounds(config: TaskConfig) -> dict[str, tuple[float, float]]:
    """The inclusive bounds (least, most) of the fields of a configuration, by name, as `check_fields` has checked them."""
    return _BOUNDS.get(type(config), {})


def check_fields(config: TaskConfig, **bounds: tuple[float, float]) -> None:
    """Check the types of all fields, and that each number is within its inclusive `bounds` (least, most).

    A number without bounds must fit into 64 bits. Raises ValueError, with what to write instead.
    """
    _BOUNDS[type(config)] = bounds
    hints = get_type_hints(type(config))
    for item in dataclasses.fields(config):
        value, hint = getattr(config, item.name), hints[item.name]
        if not _fits(value, hint):
            raise ValueError(f"{item.name} is {shown(value)}; write {_readable(hint)}")
        entries: tuple[Any, ...] = value if isinstance(value, tuple) else (value,)
        if len(entries) > MOST_ITEMS:
            raise ValueError(f"{item.name} has {len(entries)} entries; write at most {MOST_ITEMS}")
        for entry in entries:
            _check_text(item.name, entry)
        if isinstance(value, int | float):
            _check_number(item.name, value, *bounds.get(item.name, (-MOST_SEED, MOST_SEED)))


def check_test_size(field: str, rows: int, columns: int, most: int = MOST_TEST_TOKENS) -> None:
    """Raises ValueError for a test set of more than `most` numbers, which would take minutes or too much memory."""
    if rows * columns > most:
        raise ValueError(
            f"{field} is {rows}, which makes a test set of {shown(rows * columns)} numbers; write at most {most // columns}"
        )


def shown(value: Any) -> str:
    """Any value as one short line for an error message.

    >>> shown(10**400), shown("a" * 1000)
    ('a number of about 401 digits', "'aaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaa'")
    """
    if isinstance(value, int) and abs(value) >= 10**18:
        return f"a number of about {int(value.bit_length() * 0.30103) + 1} digits"
    short = reprlib.Repr()
    short.maxstring = short.maxother = 40
    try:
        return " ".join(short.repr(value).split())
    except ValueError:  # a list with a number of thousands of digits, which Python does not print
        return f"a {type(value).__name__} with a very large number"


def _check_number(name: str, value: Any, least: float, most: float) -> None:
    if value != value:
        raise ValueError(f"{name} is nan; write a number from {least} to {most}")
    if value < least:
        raise ValueError(f"{name} is {shown(value)}; write at least {least}")
    if value > most:
        raise ValueError(f"{name} is {shown(value)}; write at most {most}")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        return
    if not value:
        raise ValueError(f"{name} is empty; write at least one character, or leave {name} out")
    if "\0" in value:
        raise ValueError(f"{name} is {shown(value)}, which holds a NUL character; leave it out")
    if len(value) > MOST_CHARACTERS:
        raise ValueError(f"{name} has {len(value)} characters; write at most {MOST_CHARACTERS}")


def _fits(value: Any, hint: Any) -> bool:
    """True if a value has a type; an int is accepted as a float, a bool is no number."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin is tuple and inner[1:] == (...,):
        return isinstance(value, tuple) and all(_fits(each, inner[0]) for each in value)
    if hint is float:
        return type(value) in (int, float)
    if isinstance(value, bool):
        return hint is bool
    # Hints other than plain types must be checked by the task itself.
    return not isinstance(hint, type) or hint is Any or isinstance(value, hint)


def _readable(hint: Any) -> str:
    """A type as text for an error message."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_readable, inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin is tuple:
        return f"a tuple, each entry {_readable(inner[0])}"
    return _KINDS.get(hint) or f"a {getattr(hint, '__name__', hint)}"
