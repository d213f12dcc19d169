"""The packages and the imports between them, read from the code and drawn as docs/images/architecture.svg.

    .venv/bin/python -m docs.scripts.architecture    writes the drawing again; a test compares it with the code

Rows are the layers of pyproject.toml, arrows run from the importing package to the imported one. An arrow is left out where
other arrows imply it (transitive reduction): `ui` imports `config` too, by way of every package below.
"""

import ast
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp
import networkx as nx

ROOT = Path(__file__).resolve().parent.parent.parent
DRAWING = ROOT / "docs" / "images" / "architecture.svg"
ENTRY = "app.py"
BOX_WIDTH, BOX_HEIGHT, GAP, ROW = 120, 34, 24, 66
SIDE = 110
"""How far rows of one box stand to the left and to the right of the middle, in turns, so that arrows pass beside them."""
Edges = Mapping[str, frozenset[str]]
"""Package -> packages that it imports."""


def layers(root: Path = ROOT) -> list[list[str]]:
    """The rows, top first, from import-linter's contract; `app.py` above them."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    contract = next(
        contract
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers" and "containers" not in contract
    )
    rows = [[_short(name.strip(" ()")) for name in layer.split("|")] for layer in contract["layers"]]
    return [[ENTRY, *rows[0]], *rows[1:]]


def imports(root: Path = ROOT) -> dict[str, frozenset[str]]:
    """Imports between packages, those inside of functions and for type checkers included."""
    known = [name for row in layers(root) for name in row if name != ENTRY]
    graph = grimp.build_graph("playground", "tasks", cache_dir=None)
    found = {
        package: frozenset(
            name
            for name in known
            if name != package
            and graph.direct_import_exists(importer=_module(package), imported=_module(name), as_packages=True)
        )
        for package in known
    }
    entry = ast.walk(ast.parse((root / ENTRY).read_text()))
    read = {_short(node.module) for node in entry if isinstance(node, ast.ImportFrom) and node.module}
    return {ENTRY: frozenset(read & set(known)), **found}


def _module(package: str) -> str:
    return package if package == "tasks" else f"playground.{package}"


def _short(module: str) -> str:
    return module.removeprefix("playground.").split(".")[0]


def reduced(edges: Edges) -> dict[str, frozenset[str]]:
    """The fewest arrows from which the same packages can be reached (transitive reduction)."""
    fewest = nx.transitive_reduction(nx.DiGraph(dict(edges)))
    return {package: frozenset(fewest.successors(package)) for package in edges}


def _places(rows: Iterable[list[str]]) -> dict[str, tuple[int, int]]:
    """Middle of the upper edge of each box."""
    rows = list(rows)
    middle = max(len(row) for row in rows) * (BOX_WIDTH + GAP) // 2
    places: dict[str, tuple[int, int]] = {}
    single = 0
    for number, row in enumerate(rows):
        shift = 0
        if len(row) == 1:
            shift, single = (-SIDE, 0, SIDE)[single % 3], single + 1
        left = middle + shift - (len(row) - 1) * (BOX_WIDTH + GAP) // 2
        for place, name in enumerate(row):
            places[name] = (left + place * (BOX_WIDTH + GAP), 10 + number * ROW)
    return places


def drawing(root: Path = ROOT) -> str:
    """The drawing as SVG."""
    rows = layers(root)
    places = _places(rows)
    width = max(len(row) for row in rows) * (BOX_WIDTH + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {len(rows) * ROW}" '
        'font-family="sans-serif" font-size="15">',
        "<title>Packages and their imports</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#7a7a7a"/></marker></defs>',
    ]
    for package, names in sorted(reduced(imports(root)).items()):
        x, y = places[package]
        for name in sorted(names):
            to_x, to_y = places[name]
            start, bend = y + BOX_HEIGHT, (to_y - y - BOX_HEIGHT) // 2
            lines.append(
                f'<path d="M{x} {start}C{x} {start + bend} {to_x} {to_y - bend} {to_x} {to_y}" fill="none" stroke="#7a7a7a" '
                f'marker-end="url(#tip)"><title>{package} imports {name}</title></path>'
            )
    for name, (x, y) in places.items():
        lines.append(
            f'<rect x="{x - BOX_WIDTH // 2}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" fill="#e8eef7" '
            'stroke="#4a6fa5"/>'
            f'<text x="{x}" y="{y + 22}" text-anchor="middle" fill="#1b2a41">{name}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    DRAWING.write_text(drawing())
