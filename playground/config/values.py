"""Values and type hints: whether a value has a type, and how both are written in an error message.

Every item of a container is checked; beartype checks only some of them, for speed.
"""

import dataclasses
import functools
import reprlib
import types
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

LONGEST = 80
"""Most characters of a value in an error message."""


def fits(value: Any, hint: Any) -> bool:
    """True if `value` has the type `hint`. An int is accepted as a float, a bool is no number, a text is no sequence.

    >>> fits([1, "2"], list[int]), fits((1, 2), tuple[float, ...]), fits(True, int), fits(None, int | None)
    (False, True, False, True)
    """
    return _test_of(hint)(value)


@functools.lru_cache(maxsize=1024)
def _test_of(hint: Any) -> Callable[[Any], bool]:
    """`fits` for one type, cached: hints are parsed once and not for every value in thousands of stored files."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (None, types.NoneType):
        return lambda value: value is None
    if origin is Annotated:
        return _test_of(arguments[0])
    if origin in (Union, types.UnionType):
        tests = tuple(map(_test_of, arguments))
        return lambda value: any(test(value) for test in tests)
    if origin is Literal:
        return lambda value: any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin is not None:
        return lambda value: _container_fits(value, origin, arguments)
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        return lambda value: isinstance(value, kinds) and not isinstance(value, bool)
    if hint is Any or not isinstance(hint, type):  # configurations use no other kind of hint
        return lambda value: True
    if not dataclasses.is_dataclass(hint):
        return lambda value: isinstance(value, hint)
    return lambda value: isinstance(value, hint) and _fields_fit(value)


def _fields_fit(value: Any) -> bool:
    hints = hints_of(type(value))
    return all(fits(getattr(value, item.name), hints[item.name]) for item in dataclasses.fields(value))


def _container_fits(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if not isinstance(value, origin) or isinstance(value, str | bytes):
        return False
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if isinstance(value, Mapping):
        return all(fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items())
    if isinstance(value, Collection):
        return all(fits(item, arguments[0]) for item in value)
    return True


@functools.lru_cache(maxsize=256)
def hints_of(cls: type) -> dict[str, Any]:
    """Type hints of a class's fields by name, without the metadata of `Annotated`."""
    return get_type_hints(cls)


def readable(hint: Any) -> str:
    """A type hint as text for an error message.

    >>> readable(int), readable(float | None), readable(Literal["a", "b"]), readable(tuple[str, ...])
    ('int', 'float | None', "one of 'a', 'b'", 'tuple[str, ...]')
    """
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


class _Short(reprlib.Repr):
    """Shortened repr at every level. A long integer shows as its number of digits, because Python may refuse to print it."""

    def repr_int(self, x: int, level: int) -> str:
        if abs(x) < 10**20:
            return repr(x)
        few = x.bit_length() < 10_000
        return f"an integer of {len(str(abs(x))) if few else f'about {int(x.bit_length() * 0.30103) + 1}'} digits"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = LONGEST
_SHORT.maxlevel = 3


def short_value(value: Any) -> str:
    """Any value as text for an error message: its `repr` on one line, at most LONGEST characters. Never raises.

    >>> short_value("a" * 1000), short_value(10**400)
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'", 'an integer of 401 digits')
    """
    text = " ".join(_SHORT.repr(value).split("\n"))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def shortened(text: str, most: int = 1000) -> str:
    """A text with its middle replaced by "..." if it has more than `most` characters.

    >>> shortened("0123456789", most=9)
    '012...789'
    """
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"
