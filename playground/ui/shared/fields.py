"""Widgets for the fields of a configuration: their kind from the type, bounds from the checks, help from the docstring.

Every field keeps its name as its label, because the messages of the configurations name it so.
"""

import ast
import dataclasses
import functools
import inspect
import math
import textwrap
import types
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st

from playground.ui.shared.text import plain

MOST_INTEGER = 2**53 - 1
"""Largest integer that a browser counts exactly."""

Bounds = tuple[float | None, float | None]


def field_widget(
    item: "dataclasses.Field[Any]", hint: Any, value: Any, *, key: str, description: str, bounds: Bounds
) -> Any:
    """Draw the widget of one field, with `value` in it at first; returns the value that is chosen.

    Numbers, texts, truth values, choices, each of them or None, and tuples of them are drawn; a field of any other type keeps
    its value. Texts that are no numbers where numbers belong are returned as they are: the configuration's check refuses them.
    """
    kind, may_be_none = _without_none(hint)
    label, help = plain(item.name), plain(description)
    if get_origin(kind) is Literal:
        choices = [*([None] if may_be_none else []), *get_args(kind)]
        return st.selectbox(
            label, choices, choices.index(value), format_func=_shown, key=key, help=help, persist_state="session"
        )
    if kind is bool and not may_be_none:
        return st.checkbox(label, value, key=key, help=help, persist_state="session")
    if kind in (int, float):
        return _number(label, kind, value, key=key, help=help, bounds=bounds)
    if kind is str:
        text = st.text_input(label, value or "", key=key, help=help, persist_state="session")
        return text or (None if may_be_none else "")
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        words = st.text_input(
            label,
            " ".join(map(str, value or ())),
            key=key,
            help=f"{help} Separated by spaces.",
            persist_state="session",
        ).split()
        entries = tuple(_converted(word, get_args(kind)[0]) for word in words)
        return entries or (None if may_be_none else ())
    return value


def _number(label: str, kind: type, value: Any, *, key: str, help: str, bounds: Bounds) -> Any:
    least, most = bounds
    if kind is int:
        low = -MOST_INTEGER if least is None else math.ceil(max(least, -MOST_INTEGER))
        high = MOST_INTEGER if most is None else math.floor(min(most, MOST_INTEGER))
        return st.number_input(label, low, high, value, 1, key=key, help=help, persist_state="session")
    low, high = (None if bound is None else float(bound) for bound in bounds)
    step = 10.0 ** math.floor(math.log10(abs(value))) if value else 0.1
    start = None if value is None else float(value)
    return st.number_input(label, low, high, start, step, format="%g", key=key, help=help, persist_state="session")


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type without `| None`, and whether None was in it."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    kinds = [kind for kind in get_args(hint) if kind is not types.NoneType]
    return (kinds[0] if len(kinds) == 1 else hint), types.NoneType in get_args(hint)


def _shown(choice: Any) -> str:
    return "none" if choice is None else plain(str(choice))


def _converted(word: str, kind: Any) -> Any:
    try:
        return kind(word) if kind in (int, float) else word
    except ValueError:
        return word


@functools.cache
def field_help(cls: type) -> dict[str, str]:
    """The docstring below each field of a configuration class, by name, in one line. A class without source has none."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            continue
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for field, below in zip(body, body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[field.target.id] = " ".join(str(below.value.value).split())
    return found
