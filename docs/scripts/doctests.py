"""Examples in docstrings (`>>>`) as blocks of code on the site; mkdocstrings would show them as quotations.

An extension of griffe, which `make docs` installs and nothing else needs; hence no plain import.
"""

import importlib
import re
from typing import Any

Extension: Any = importlib.import_module("griffe").Extension
EXAMPLE = re.compile(r"(?:^|(?<=\n\n))(>>> .*?)(?=\n\n|\Z)", re.DOTALL)
"""From the first prompt to the end of the paragraph."""


def fenced(docstring: str) -> str:
    """The docstring with each example as a fenced block."""
    return EXAMPLE.sub(r"```pycon\n\1\n```", docstring)


class Doctests(Extension):
    """Applies `fenced` to every docstring that griffe reads."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
