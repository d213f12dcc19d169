"""Saved results: JSON lines, each header (benchmarks/machine.py) followed by the rows measured with it.

    {"header": true, "device": "NVIDIA H200", "versions": {...}, "commit": "...", "time": "...", ...}
    {"module": "floors", "benchmark": "floors", "what": "copy", "value": 3900.0, "unit": "GB/s", ...}

A later run of a benchmark on the same device replaces its earlier rows; other rows keep their own header.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Header = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A header with the rows measured in one run."""

    header: Header
    rows: tuple[Row, ...]


def read(path: Path) -> list[Part]:
    """All parts of a file. Raises ValueError, with the line, for a line that is not a JSON object or has no header above it."""
    headers: list[Header] = []
    rows: list[list[Row]] = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        line = _parse(text, f"{path}:{number}")
        if line.get("header"):
            headers.append(line)
            rows.append([])
        elif not headers:
            raise ValueError(f'{path}:{number}: a row without a header; write one above it, {{"header": true, ...}}')
        else:
            rows[-1].append(line)
    return [Part(header=header, rows=tuple(own)) for header, own in zip(headers, rows, strict=True)]


def replace_rows(path: Path, header: Header, module: str, rows: Sequence[Row]) -> None:
    """Put the rows of one benchmark's module into a file, instead of its earlier rows of this device; atomic."""
    parts: list[Part] = []
    for part in read(path) if path.exists() else []:
        same_device = part.header["device"] == header["device"]
        kept = tuple(row for row in part.rows if not same_device or row.get("module") != module)
        if kept:
            parts.append(Part(header=part.header, rows=kept))
    if parts and parts[-1].header == header:
        rows = (*parts.pop().rows, *rows)
    parts.append(Part(header=header, rows=tuple(rows)))
    text = "".join(json.dumps(line) + "\n" for part in parts for line in (part.header, *part.rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error}); a saved file has one JSON object per line") from error
    if not isinstance(line, dict):
        raise ValueError(f"{where}: {text[:40]!r} is not a JSON object")
    return line
