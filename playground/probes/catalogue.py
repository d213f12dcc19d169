"""All probes by name. Every module in this folder that declares `PROBE = Probe(...)` is found; there is no list.

The declarations are read from the sources, without running them: names, summaries, results and figures of probes are then
known to pages and commands without importing torch. A module is imported when its probe is to measure, or when its
declaration names a result or a figure that the module itself defines.
"""

import ast
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import playground.probes as package
from playground.config.checks import nearest
from playground.results import Result

WITHOUT_TORCH = ("playground.results", "playground.figures")
"""Packages from which a declared result or figure is imported without its probe."""
_files: dict[Path, tuple[int, "list[Listed]"]] = {}
"""What each file declares, with the time of its last change."""
_registered: "dict[str, Listed]" = {}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A probe in the list of probes."""

    name: str
    summary: str
    module: str
    """Where it is declared."""
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Module and name of the declared `result`, `figure` and `figure_along`, as far as they are given by a name."""
    probe: Any = None
    """The `Probe` itself, if it was registered by `register_probe`."""

    @property
    def result(self) -> type[Result]:
        """The class of its results."""
        return self._declared("result")

    @property
    def figure(self) -> Callable[..., Any] | None:
        """Draws results at one step (`Probe.figure`); None where the declaration has none."""
        return self._declared("figure")

    @property
    def figure_along(self) -> Callable[..., Any] | None:
        """Draws results along a training (`Probe.figure_along`); None where the declaration has none."""
        return self._declared("figure_along")

    def declared(self) -> Any:
        """The `Probe`; imports its module."""
        return self.probe or next(probe for probe in _probes_of(self.module) if probe.name == self.name)

    def _declared(self, key: str) -> Any:
        module, name = self.names.get(key, (self.module, ""))
        if self.probe is None and not module:
            return None
        if self.probe is None and module.startswith(WITHOUT_TORCH):
            return getattr(importlib.import_module(module), name)
        return getattr(self.declared(), key)


def all_probes() -> dict[str, Listed]:
    """Every probe by its name: those of this folder in the order of the files, then registered ones.

    Raises SyntaxError for a file that is no Python, and ValueError for a declaration that cannot be read.
    """
    found: dict[str, Listed] = {}
    for folder in package.__path__:
        for path in sorted(Path(folder).glob("*.py")):
            for probe in _declared_in(path):
                if probe.name in found:
                    raise ValueError(
                        f"the probe {probe.name} is declared in {found[probe.name].module} and in {probe.module}; "
                        "give one of them another name"
                    )
                found[probe.name] = probe
    return found | _registered


def find_probe(name: str) -> Listed:
    """A probe by name. Raises ValueError for an unknown name; the message suggests the nearest one."""
    known = all_probes()
    if name not in known:
        raise ValueError(f"there is no probe '{name}'{nearest(name, known)}")
    return known[name]


def register(probe: Any) -> None:
    """List a `Probe` that is declared outside of this folder; see `playground.probes.registry.register_probe`."""
    known = all_probes().get(probe.name)
    if known is not None and known.result.__qualname__ != probe.result.__qualname__:
        raise ValueError(f"the probe name '{probe.name}' is taken by {known.module}; choose another name")
    _registered[probe.name] = Listed(name=probe.name, summary=probe.summary, module=probe.make.__module__, probe=probe)


def _probes_of(module: str) -> tuple[Any, ...]:
    declared = importlib.import_module(module).PROBE
    return declared if isinstance(declared, tuple) else (declared,)


def _declared_in(path: Path) -> list[Listed]:
    changed = path.stat().st_mtime_ns
    known = _files.get(path)
    if known is None or known[0] != changed:
        known = _files[path] = (changed, list(_read(path)))
    return known[1]


def _read(path: Path) -> Iterator[Listed]:
    """The probes that a file declares."""
    source = path.read_text(encoding="utf-8")
    if "PROBE" not in source:
        return
    tree, module = ast.parse(source, str(path)), f"{package.__name__}.{path.stem}"
    imported = {
        name.asname or name.name: (node.module or "", name.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "PROBE" for to in node.targets):
            calls = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            for call in calls:
                yield _listed(call, module, imported, f"{path}, line {call.lineno}")


def _listed(call: ast.expr, module: str, imported: Mapping[str, tuple[str, str]], where: str) -> Listed:
    given = {word.arg: word.value for word in call.keywords} if isinstance(call, ast.Call) else {}
    texts: dict[str, str] = {}
    for key in ("name", "summary"):
        value = given.get(key)
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
            raise ValueError(f'{where}: the probe has no {key} in quotes; write PROBE = Probe({key}="...", ...)')
        texts[key] = value.value
    if not texts["name"].isidentifier():
        raise ValueError(f"{where}: the probe is named {texts['name']!r}; write letters, digits and underscores")
    names = {key: ("", "") for key in ("figure", "figure_along") if key not in given}
    for key in ("result", "figure", "figure_along"):
        value = given.get(key)
        if isinstance(value, ast.Name):
            names[key] = imported.get(value.id, (module, value.id))
    return Listed(module=module, names=names, **texts)
