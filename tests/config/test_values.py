"""Values against type hints, every item of them, and values as error sentences show them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest

from playground.config.values import LONGEST, fits, readable, short_value, shortened


@dataclasses.dataclass
class Point:
    x: int
    names: tuple[str, ...] = ()


MANY = tuple("abc" for _ in range(1000))
FITTING = [
    (3, int), (3, float), (3.5, float), (True, bool), ("a", str), (None, None), (None, int | None), (4, int | None),
    ("a", Literal["a", "b"]), (2, Literal[1, 2]), (MANY, tuple[str, ...]), ((), tuple[str, ...]), ((), tuple[()]),
    ((1, "a"), tuple[int, str]), ([1, 2], list[int]), ({"a": 1}, dict[str, int]), ({"a": 1}, Mapping[str, float]),
    ({"a": {"b": (1,)}}, dict[str, dict[str, tuple[int, ...]]]), ({1, 2}, set[int]), ([1], Sequence[int]),
    (Point(1, ("a",)), Point), (Point(1), Point | None), (5, Annotated[int, "counted"]), (object, Any),
]  # fmt: skip
UNFITTING = [
    (True, int), (True, float), (1, bool), (3.0, int), ("3", int), (None, int), (3, str), (b"a", str), (3, int and None),
    ("c", Literal["a", "b"]), (True, Literal[1]), (1.0, Literal[1]), ([], Literal["a"]), (True, int | None),
    ((*MANY, 3), tuple[str, ...]), (list(MANY), tuple[str, ...]), ((1,), tuple[int, str]), ((1, 2), tuple[int, str]),
    ({"a": "b"}, dict[str, int]), ({3: 4}, dict[str, int]), ({"a": True}, dict[str, float]), ([("a", 1)], dict[str, int]),
    ({"a": {"b": (1, "c")}}, dict[str, dict[str, tuple[int, ...]]]), ("abc", Sequence[str]), ([1, None], list[int]),
    (Point("1"), Point), (Point(1, ("a", 2)), Point | None), ({"x": 1}, Point), ([1, "a"], list[int | None]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint"), FITTING, ids=lambda value: str(value)[:60])
def test_values_of_a_type(value, hint):
    assert fits(value, hint)


@pytest.mark.parametrize(("value", "hint"), UNFITTING, ids=lambda value: str(value)[:60])
def test_values_that_are_not_of_a_type_at_any_place(value, hint):
    assert not fits(value, hint)


def test_one_wrong_item_among_many_is_always_found():
    assert not any(fits((*MANY[:place], 0, *MANY[place:]), tuple[str, ...]) for place in range(0, 1000, 7))


def test_types_in_words():
    hints = (int, float | None, tuple[str, ...], Literal["a", "b"], dict[str, int], Point)
    assert [readable(hint) for hint in hints] == [
        "int",
        "float | None",
        "tuple[str, ...]",
        "one of 'a', 'b'",
        "dict[str, int]",
        "Point",
    ]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("never to be shown")


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [
    10**400, -(10**5000), "a" * 10**6, "a\nb\x1b[31m\u202e", {"a": 10**5000}, [10**5000] * 1000, nested(100_000), Unprintable(),
    {str(number): "x" * 99 for number in range(1000)}, b"\0" * 10**6, float("nan"), Point(10**5000), "\udcff", {Unprintable(): 1},
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_any_value_is_shown_in_one_short_line(value):
    text = short_value(value)
    assert 0 < len(text) <= LONGEST and text.isprintable()


def test_values_of_usual_size_are_shown_as_they_are():
    for value in (0, -7, 1e-5, "abc", None, (1, 2), [], {"a": 1}, True, "it's"):
        assert short_value(value) == repr(value)


def test_the_digits_of_an_integer_are_counted():
    assert short_value(int("9" * 400)) == "an integer of 400 digits"
    assert short_value(-(10**5000)) == "an integer of about 5001 digits"


def test_long_sentences_lose_their_middle():
    assert shortened("abc") == "abc"
    assert len(shortened("a" * 10**6)) <= 1000
