"""Reading the code of pages: which texts go into Streamlit's Markdown, and whether what is filled into them is marked as text.

A part is safe when it is written in the code, a number, or made by `plain`, `code` or another of `SAFE`. Names are followed to
where they are assigned, parameters to the calls, and functions of the package to what they return.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_FIRST = (
    "badge button caption checkbox download_button error expander header info link_button markdown multiselect number_input "
    "pills popover radio segmented_control select_slider selectbox slider spinner subheader success tabs text_area text_input "
    "title toast toggle warning write"
)
TEXTS = dict.fromkeys(_FIRST.split(), (0,)) | {"metric": (0, 1, 2), "progress": (1,), "page_link": ()}
"""Functions of Streamlit that draw Markdown, and which of their arguments are Markdown."""
NAMED = ("body", "delta", "help", "label", "text", "value")
"""Arguments that are Markdown where they are given by name; `value` of a metric only."""
OPTIONS = ("pills", "radio", "segmented_control", "select_slider")
"""Widgets whose options are Markdown too."""
SAFE = ("plain", "code", "plural", "short", "duration", "times", "rate_text", "len", "sum", "int", "round", "range")
"""Functions that give safe text, or numbers."""
OF_SAFE = ("str", "list", "set", "sorted", "map", "min", "max", "dict")
"""Functions that give safe text of safe arguments."""
NUMBERS = (
    "batch_size cut device_count fraction n_ctx n_future n_layers n_trunk_layers next_token_depth nodes number offset seed "
    "speculative speculative_forwards plain_forwards forwards parallel step steps models count width parts_at checkpoints"
).split()
"""Names and attributes that are numbers everywhere in the package."""
KNOWN = ("summary",)
"""Attributes that hold what is written in the code."""


COMPREHENSIONS = (ast.GeneratorExp, ast.ListComp, ast.DictComp, ast.SetComp)


@dataclass(frozen=True)
class Place:
    """An expression, in the functions around it (innermost last) and its module."""

    node: ast.expr
    scopes: tuple[ast.AST, ...]
    path: Path

    def at(self, node: ast.expr) -> "Place":
        return Place(node, self.scopes, self.path)


class Package:
    """All modules below a folder."""

    def __init__(self, folder: Path) -> None:
        self.trees = {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}
        self._asked: set[tuple[int, str]] = set()

    @cached_property
    def calls(self) -> list[tuple[ast.Call, Place]]:
        found: list[tuple[ast.Call, Place]] = []
        for path, tree in self.trees.items():
            found += [
                (node, Place(node, scopes, path)) for node, scopes in _walk(tree, (tree,)) if isinstance(node, ast.Call)
            ]
        return found

    @cached_property
    def functions(self) -> dict[str, list[tuple[ast.FunctionDef, Path, tuple[ast.AST, ...]]]]:
        found: dict[str, list[tuple[ast.FunctionDef, Path, tuple[ast.AST, ...]]]] = {}
        for path, tree in self.trees.items():
            for node, scopes in _walk(tree, (tree,)):
                if isinstance(node, ast.FunctionDef):
                    found.setdefault(node.name, []).append((node, path, (*scopes, node)))
        return found

    def unmarked(self) -> list[str]:
        """Where a text with an unsafe part goes into Markdown: `file:line: the text`."""
        found: list[str] = []
        for call, place in self.calls:
            for text in markdown_of(call):
                if not self.safe(place.at(text)):
                    found.append(f"{place.path}:{text.lineno}: {ast.unparse(text)}")
        return found

    def safe(self, place: Place) -> bool:
        """Whether a text, a list of texts, or what a function gives for an option holds nothing but safe parts."""
        node = place.node
        match node:
            case ast.Constant():
                return True
            case ast.JoinedStr() | ast.List() | ast.Tuple():
                parts = node.values if isinstance(node, ast.JoinedStr) else node.elts
                return all(self.safe(place.at(part)) for part in parts)
            case ast.FormattedValue(value=value, format_spec=spec):
                return (spec is not None and _is_numeric(ast.unparse(spec))) or self.safe(place.at(value))
            case ast.IfExp(body=body, orelse=other):
                return self.safe(place.at(body)) and self.safe(place.at(other))
            case ast.BoolOp(values=values):
                return all(self.safe(place.at(value)) for value in values)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self.safe(place.at(left)) and self.safe(place.at(right))
            case ast.BinOp() | ast.UnaryOp() | ast.Compare():
                return True  # numbers
            case ast.Lambda(body=body):
                return self.safe(Place(body, (*place.scopes, node), place.path))
            case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element) | ast.DictComp(value=element):
                return self.safe(Place(element, (*place.scopes, node), place.path))
            case ast.Subscript(value=value) | ast.Starred(value=value):
                return self.safe(place.at(value))
            case ast.Attribute(value=value, attr=name):
                return name in (*NUMBERS, *KNOWN) or (name == "__getitem__" and self.safe(place.at(value)))
            case ast.Call():
                return self._call(place, node)
            case ast.Name(id=name):
                return name.isupper() or name in (*SAFE, *OF_SAFE, "number", "count") or self._name(place, name)
            case _:
                return False

    def _call(self, place: Place, call: ast.Call) -> bool:
        name = _name_of(call)
        if isinstance(call.func, ast.Attribute) and name in ("join", "items", "values", "get", "keys", "partition"):
            filled = call.args[1:] if name == "get" else call.args
            return self.safe(place.at(call.func.value)) and all(self.safe(place.at(part)) for part in filled)
        if name in OF_SAFE:
            return all(self.safe(place.at(part)) for part in call.args)
        return name in SAFE or (name in self.functions and all(self._returns(*found) for found in self.functions[name]))

    def _returns(self, function: ast.FunctionDef, path: Path, scopes: tuple[ast.AST, ...]) -> bool:
        """Whether all that a function returns is safe."""
        returned = [
            node.value for node, around in _walk(function, scopes) if isinstance(node, ast.Return) and around == scopes
        ]
        return bool(returned) and all(value is not None and self.safe(Place(value, scopes, path)) for value in returned)

    def _name(self, place: Place, name: str) -> bool:
        """Whether all that a name stands for is safe; a name that is being asked for already adds nothing."""
        for depth in range(len(place.scopes), 0, -1):
            scopes = place.scopes[:depth]
            key = (id(scopes[-1]), name)
            if key in self._asked:
                return True
            self._asked.add(key)
            try:
                found = list(self._bound(Place(place.node, scopes, place.path), name))
            finally:
                self._asked.remove(key)
            if found:
                return all(found)
        return False

    def _bound(self, place: Place, name: str) -> Iterator[bool]:
        """For everything that gives the name a value in the innermost scope, whether that is safe."""
        scope = place.scopes[-1]
        if isinstance(scope, ast.FunctionDef | ast.Lambda):
            yield from self._parameter(place, scope, name)
        if isinstance(scope, COMPREHENSIONS):
            for loop in scope.generators:
                if name in _names(loop.target):
                    yield self.safe(Place(loop.iter, place.scopes[:-1], place.path))
            return
        for node, scopes in _walk(scope, place.scopes):
            if scopes != place.scopes:
                continue
            match node:
                case ast.Assign(targets=targets, value=value) if any(name in _names(target) for target in targets):
                    yield self.safe(place.at(_part(targets[0], value, name)))
                case ast.AnnAssign(target=ast.Name(id=target), value=value) if target == name and value is not None:
                    yield _is_number(node.annotation) or self.safe(place.at(value))
                case ast.AugAssign(target=ast.Name(id=target), value=value) if target == name:
                    yield self.safe(place.at(value))
                case ast.For(target=target, iter=iterated) if name in _names(target):
                    counted = isinstance(target, ast.Tuple) and _names(target.elts[0]) == {name}
                    yield (counted and ast.unparse(iterated).startswith("enumerate(")) or self.safe(place.at(iterated))
                case ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr="append"), args=[value]) if (
                    target == name
                ):
                    yield self.safe(place.at(value))
                case _:
                    pass

    def _parameter(self, place: Place, scope: ast.FunctionDef | ast.Lambda, name: str) -> Iterator[bool]:
        arguments = [*scope.args.posonlyargs, *scope.args.args, *scope.args.kwonlyargs]
        given = next((argument for argument in arguments if argument.arg == name), None)
        if given is None:
            return
        if isinstance(scope, ast.Lambda):
            defaults = dict(
                zip([argument.arg for argument in scope.args.args][::-1], scope.args.defaults[::-1], strict=False)
            )
            yield name in defaults and self.safe(Place(defaults[name], place.scopes[:-1], place.path))
            return
        if given.annotation is not None and _is_number(given.annotation):
            yield True
            return
        places = [argument.arg for argument in arguments]
        calls = [(call, at) for call, at in self.calls if _name_of(call) == scope.name]
        if not calls:
            yield False
        for call, at in calls:
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            index = places.index(name)
            if name in named or index < len(call.args):
                yield self.safe(at.at(named.get(name) or call.args[index]))


def markdown_of(call: ast.Call) -> list[ast.expr]:
    """The arguments of a call that Streamlit draws as Markdown; a `format_func` stands for what it gives."""
    name = _name_of(call)
    named = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if isinstance(call.func, ast.Attribute) and name.endswith("Column"):
        return [named["help"]] if "help" in named else []
    if not isinstance(call.func, ast.Attribute) or name not in TEXTS:
        return []
    if name in ("title", "code") and getattr(call.func.value, "id", "") != "st":
        return []  # another class's
    found = [call.args[place] for place in TEXTS[name] if place < len(call.args)]
    found += [named[part] for part in NAMED if part in named and (part != "value" or name == "metric")]
    if name in OPTIONS:
        options = named.get("options", call.args[1] if len(call.args) > 1 else None)
        found += [named["format_func"]] if "format_func" in named else [options] if options is not None else []
    return found


def _walk(tree: ast.AST, scopes: tuple[ast.AST, ...]) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    """Every node below, with the functions and comprehensions around it."""
    for child in ast.iter_child_nodes(tree):
        yield child, scopes
        inner = isinstance(child, (ast.FunctionDef, ast.Lambda, *COMPREHENSIONS))
        yield from _walk(child, (*scopes, child) if inner else scopes)


def _name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _names(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _part(target: ast.expr, value: ast.expr, name: str) -> ast.expr:
    """What of `a, b = x, y` a name gets; all of the value where that cannot be told."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        pairs: Sequence[tuple[ast.expr, ast.expr]] = list(zip(target.elts, value.elts, strict=True))
        return next((part for one, part in pairs if name in _names(one)), value)
    return value


def _is_number(annotation: ast.expr) -> bool:
    """Whether a type is that of numbers, or of names written in the code."""
    return re.fullmatch(r"(\w+\[)?(int|float|bool|RowSource)\]?", ast.unparse(annotation)) is not None


def _is_numeric(spec: str) -> bool:
    """Whether a format specification is one of numbers, which a text has not."""
    return re.fullmatch(r"f?['\"][+,.\d]*[,defg%]['\"]", spec) is not None
