"""`python -m benchmarks.page FILE [FILE ...] --out docs/benchmarks.html`: saved results of one or more machines as a page."""

import argparse
import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.io

from benchmarks.figures import Row, case_of, constants, figure, labels, worded
from benchmarks.saved import Header, Part, read
from benchmarks.sections import SECTIONS, section_of

SPREADS = ("_quartile_low", "_quartile_high", "_lowest", "_highest")
COLUMNS = {"value": "measured", "baseline_value": "baseline", "ratio": "ratio", "target": "target"}
IN_UNIT = ("value", "baseline_value", "floor")
HIDDEN = ("module", "benchmark", "unit", "target_is", "floor_is", "repeats", "seed", "seeds", "run")
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; background: white; max-width: 66rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-top: 1px solid #d5dae0; padding-top: 1rem; }
h3 { font-size: 1rem; margin-bottom: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 0.5rem 0; }
th, td { border-bottom: 1px solid #d5dae0; padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
.spread { white-space: nowrap; }
.spread, .machine { color: #57616b; } .machine { font-size: 0.85rem; }
.warning { border-left: 4px solid #b03a2e; padding-left: 0.7rem; }
@media print { body { max-width: none; margin: 0; } section > div { break-inside: avoid; } nav { display: none; } }
"""
INTRODUCTION = (
    "Medians of repeats; the things compared are measured alternately. Grey whiskers and brackets are quartiles, for decoding "
    "the lowest and the highest. Red strokes are targets, dashed lines the measured rates of the device. "
    "docs/reference/benchmarks.md explains how each figure is made."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="files written by `python -m benchmarks --save FILE`"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.html"))
    parser.add_argument(
        "--embed",
        action="store_true",
        help="include plotly's script in the page (5 MB), so that it can be read offline",
    )
    given = parser.parse_args(arguments)
    try:
        parts = [part for path in given.files for part in read(path)]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    given.out.write_text(page(parts, embed=given.embed))
    return 0


def page(parts: Sequence[Part], *, embed: bool = False) -> str:
    """The whole page: a section for each benchmark, with a block for each machine."""
    found = {row["benchmark"]: row.get("module", row["benchmark"]) for part in parts for row in part.rows}
    order = [name for name in SECTIONS if name in found] + [name for name in found if name not in SECTIONS]
    script = _plotly_script(embed)
    links = " | ".join(f'<a href="#{name}">{html.escape(section_of(name, found[name]).title)}</a>' for name in order)
    body = "\n".join(_section(name, found[name], parts) for name in order)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Benchmarks</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n{script}\n</head>\n'
        f"<body>\n<h1>Benchmarks</h1>\n<p>{html.escape(INTRODUCTION)}</p>\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )


def _plotly_script(embed: bool) -> str:
    """The script element of plotly.js: its source, or its address with the checksum of the installed version."""
    source: Any = True if embed else "cdn"
    empty = plotly.io.to_html({"data": []}, include_plotlyjs=source, full_html=False, div_id="empty")
    return empty[empty.index("<script") : empty.index('<div id="empty"')]


def _section(name: str, module: str, parts: Sequence[Part]) -> str:
    section = section_of(name, module)
    blocks = [
        _block(f"{name}-{number}", part.header, rows)
        for number, part in enumerate(parts)
        if (rows := [row for row in part.rows if row["benchmark"] == name])
    ]
    head = f'<section id="{name}">\n<h2>{html.escape(section.title)}</h2>\n<p>{html.escape(section.text)}</p>\n'
    return head + "\n".join(blocks) + "\n</section>"


def _block(name: str, header: Header, rows: list[Row]) -> str:
    """One benchmark on one machine."""
    skipped = [row for row in rows if "skipped" in row]
    rows = [row for row in rows if "skipped" not in row]
    parts = [f"<h3>{html.escape(header['device'])}</h3>"]
    parts += [f"<p>Skipped: {html.escape(row['skipped'])}</p>" for row in skipped]
    if header.get("quick"):
        parts.append('<p class="warning">Tiny shapes and few repeats (--quick): these figures are not meaningful.</p>')
    if (drawn := figure(rows)) is not None:
        config = {"displayModeBar": False, "responsive": True}
        parts.append(plotly.io.to_html(drawn, config, include_plotlyjs=False, full_html=False, div_id=name))
    if rows:
        parts.append(table(rows))
    parts.append(f'<p class="machine">{html.escape(machine_line(header, rows))}</p>')
    return "<div>" + "\n".join(parts) + "</div>"


def machine_line(header: Header, rows: Sequence[Row]) -> str:
    """The line below a figure: common fields of all cases, repeats, seeds, machine, versions, commit and time."""
    versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
    repeats = {row["repeats"] for row in rows if row.get("repeats") is not None}
    seeds = {seed for row in rows for seed in row.get("seeds", [row.get("seed")]) if seed is not None}
    common = [worded(name, value) for name, value in constants(rows).items()]
    parts = [
        *common,
        f"repeats: {_range(repeats)}" if repeats else "",
        f"seed: {_range(seeds)}" if seeds else "",
        f"{header['device']}; {header.get('cores')} cores of {header.get('processor')}, {header.get('memory_gb')} GB",
        versions,
        f"commit {header['commit']}" if header.get("commit") else "",
        f"{header.get('time', '')}, load before {header.get('load')}",
    ]
    return "; ".join(part for part in parts if part)


def table(rows: Sequence[Row]) -> str:
    """Table of cases: measured values and ratios with their spread, targets, and all other fields of the rows."""
    cases = labels(rows)
    skip = {*HIDDEN, *constants(rows), *(name for row in rows for name in case_of(row))}
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in skip]
    names = [name for name in names if not name.endswith(SPREADS) and any(row.get(name) is not None for row in rows)]
    names = [name for name in COLUMNS if name in names] + [name for name in names if name not in COLUMNS]
    titles = {"floor": next((row["floor_is"] for row in rows if "floor_is" in row), "floor"), **COLUMNS}
    units = {row["unit"] for row in rows if "unit" in row}
    unit = units.pop() if len(units) == 1 else ""
    titles = {name: titles.get(name, name.replace("_", " ")) for name in names}
    titles |= {name: f"{titles[name]}, {unit}" for name in names if unit and name in IN_UNIT}
    head = "".join(f"<th>{html.escape(titles[name])}</th>" for name in names)
    lines = [
        f"<tr><td>{html.escape(case)}</td>"
        + "".join(f"<td>{_cell(row, name, not unit)}</td>" for name in names)
        + "</tr>"
        for case, row in zip(cases, rows, strict=True)
    ]
    return f'<div class="scroll"><table>\n<tr><th>case</th>{head}</tr>\n' + "\n".join(lines) + "\n</table></div>"


def _cell(row: Row, name: str, with_unit: bool) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if name == "target":
        return _target(row)
    low, high = (row.get(name + end[0], row.get(name + end[1])) for end in (SPREADS[0::2], SPREADS[1::2]))
    spread = f' <span class="spread">[{_number(low)}, {_number(high)}]</span>' if low != high else ""
    unit = f" {html.escape(row['unit'])}" if with_unit and name in IN_UNIT and "unit" in row else ""
    return f"{_number(value)}{spread}{unit}"


def _target(row: Row) -> str:
    """The target, and whether the ratio (or the value, if there is no ratio) meets it."""
    target, reached = row["target"], row.get("ratio", row.get("value"))
    if row.get("target_is") == "at least":
        return f"≥ {_number(target)}, {'met' if reached >= target else 'missed'}"
    if row.get("target_is") == "at most":
        return f"≤ {_number(target)}, {'met' if reached <= target else 'missed'}"
    return _number(target)


def _number(value: Any) -> str:
    """A readable value: numbers with four digits, lists and dictionaries separated by commas.

    >>> _number(1234567.0), _number(0.01234), _number({"plain": 1.0}), _number([0.5, 0.25])
    ('1,235,000', '0.01234', 'plain 1', '0.5, 0.25')
    """
    if isinstance(value, dict):
        return ", ".join(f"{html.escape(str(name))} {_number(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_number, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return html.escape(str(value))
    return f"{float(f'{value:.4g}'):,.12g}"


def _range(values: set[Any]) -> str:
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least} to {most}"


if __name__ == "__main__":
    sys.exit(main())
