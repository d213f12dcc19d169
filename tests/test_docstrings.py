"""Examples in docstrings (`>>>`): each is run, and gives what it says."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT


def examples() -> Iterator[tuple[str, str, str]]:
    """Module, name of what the docstring belongs to, docstring."""
    for path in sorted([*(ROOT / "playground").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            docstring = (
                ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) else None
            )
            if docstring and ">>> " in docstring:
                yield module_name(path), getattr(node, "name", "module"), docstring


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    ("module", "name", "docstring"), [pytest.param(*case, id=f"{case[0]}:{case[1]}") for case in examples()]
)
def test_an_example_gives_what_it_says(module: str, name: str, docstring: str) -> None:
    names = dict(vars(importlib.import_module(module)))
    example = doctest.DocTestParser().get_doctest(docstring, names, f"{module}.{name}", None, 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert result.attempted > 0 or "+SKIP" in docstring
    assert not result.failed, "".join(said)


def test_there_are_examples() -> None:
    assert len(list(examples())) > 8
