"""Damage to a run's folder, drawn from a seed: what a bad disk, a bad copy, another program or a person could leave."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 3.5, -2.5, 2**31, 2**63, 2**80, 10**30, 1e308, "", "x", "3", "../../x", "x" * 100_000, "\ud800",
    "\x1b[31m", "![x](http://127.0.0.1:1/i.png)", "[/red]", "a\0b", "\u202e", [], [1], [[]], ["a"] * 50, {}, {"a": 1},
    {"a": {"b": {}}}, float("nan"), float("inf"),
]  # fmt: skip
RAW = [b"", b"\n", b"[", b"{}", b"[]", b"null", b"3", b'"a"', b"\xff\xfe\x00", b"\0" * 300, b"[" * 200_000, b'{"a":' * 50_000,
       b"9" * 6000, b"not json", b'{"step": 1}\n' * 20, b"{'a': 1}", b"\xef\xbb\xbf{}"]  # fmt: skip
JSON_FILES = ("run.json", "config.json")
LINES = (
    "metrics.jsonl",
    "probes/attention.jsonl",
    "probes/behaviour.jsonl",
    "probes/composition.jsonl",
    "probes/task_attention.jsonl",
)
TENSORS = ("weights.safetensors", "resume.safetensors")


@dataclass(frozen=True)
class Damage:
    """One damage: its kind, what was changed, and which commands may not pass over it in silence."""

    kind: str
    what: str
    must_say: tuple[str, ...] = ()


Draw = random.Random
Kind = Callable[[Path, Draw], Damage]


def damage(folder: Path, seed: int) -> Damage:
    """Damage the run in `folder` in one way (of a tenth of the seeds in two)."""
    draw = random.Random(seed)
    done = draw.choice(KINDS)(folder, draw)
    return draw.choice(KINDS)(folder, draw) if draw.random() < 0.1 else done


def _field(folder: Path, draw: Draw) -> Damage:
    """One field of run.json or config.json gets another value, goes, or comes."""
    name = draw.choice(JSON_FILES)
    path = folder / name
    values = _read(path)
    target, place = values, ""
    while True:
        if not isinstance(target, dict) or not target:
            break
        key = draw.choice(sorted(target))
        place = f"{place}.{key}"
        if isinstance(target[key], dict) and draw.random() < 0.7:
            target = target[key]
            continue
        before, how = target[key], draw.random()
        if how < 0.15:
            del target[key]
        elif how < 0.25:
            target[draw.choice(["mood", "", "\ud800", "step ", "x" * 1000])] = draw.choice(HOSTILE)
        else:
            target[key] = draw.choice(HOSTILE)
        changed = key in target and target[key] != before and type(target[key]) is not type(before)
        _write(path, values)
        return Damage("field", f"{name}{place}", ("show",) if changed and name == "config.json" else ())
    return _raw(folder, draw)


def _experiment(folder: Path, draw: Draw) -> Damage:
    """A field of the configuration gets another value of the right type: the run is another experiment then."""
    values = _read(folder / "config.json")
    part, field, value = draw.choice(
        [
            ("optim", "lr", 0.5),
            ("optim", "weight_decay", 0.2),
            ("train", "batch_size", 16),
            ("model", "n_heads", 4),
            ("task", "d_vocab", 12),
            ("train", "steps", 30),
            ("model", "rotary_base", 5000.0),
            ("task", "test_seed", 5),
        ]
    )
    if isinstance(values.get(part), dict):
        values[part][field] = value
    _write(folder / "config.json", values)
    return Damage("experiment", f"{part}.{field}", ("show", "probe", "resume", "generate"))


def _raw(folder: Path, draw: Draw) -> Damage:
    """A file's whole contents are other bytes."""
    path = draw.choice(_files(folder) or [folder / "run.json"])
    path.write_bytes(draw.choice(RAW))
    return Damage("contents", path.relative_to(folder).as_posix())


def _bytes(folder: Path, draw: Draw) -> Damage:
    """Some bytes of a file are flipped, inserted or cut off."""
    path = draw.choice(_files(folder) or [folder / "run.json"])
    content = bytearray(path.read_bytes() if path.is_file() else b"")
    for _ in range(draw.randint(1, 4)):
        place, how = draw.randrange(len(content) + 1), draw.random()
        if how < 0.5 and place < len(content):
            content[place] ^= 1 << draw.randrange(8)
        elif how < 0.75:
            content[place:place] = bytes(draw.randrange(256) for _ in range(draw.randint(1, 30)))
        else:
            del content[place:]
    path.write_bytes(content)
    return Damage("bytes", path.relative_to(folder).as_posix())


def _tensors(folder: Path, draw: Draw) -> Damage:
    """A byte of the values in the last checkpoint is flipped: nothing but a checksum can tell."""
    steps = sorted(
        (path for path in (folder / "checkpoints").glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name)
    )
    files = [path for path in (steps[-1] / name for name in TENSORS) if path.is_file()] if steps else []
    if not files:
        return _raw(folder, draw)
    path = draw.choice(files)
    content = bytearray(path.read_bytes())
    place = draw.randrange(len(content) // 2, len(content)) if len(content) > 1 else 0
    if content:
        content[place] ^= 1 << draw.randrange(8)
    path.write_bytes(content)
    said = ("generate", "probe", "resume") if path.name == TENSORS[0] else ("resume",)
    return Damage("tensors", path.relative_to(folder).as_posix(), said if content else ())


def _lines(folder: Path, draw: Draw) -> Damage:
    """A line of metrics or a probe is broken, wrong, doubled, moved or gone."""
    name = draw.choice(LINES)
    path = folder / name
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    if not lines:
        return _raw(folder, draw)
    place, how = draw.randrange(len(lines)), draw.random()
    said: tuple[str, ...] = ()
    if how < 0.4:
        lines[place], said = (
            draw.choice([b"{\n", b"[]\n", b"\xff\n", b"3\n", b"\0\0\n", b"[" * 50_000 + b"\n"]),
            ("show",),
        )
    elif how < 0.8:
        row = json.loads(lines[place])
        row[draw.choice(sorted(row))] = draw.choice(HOSTILE)
        lines[place] = json.dumps(row).encode() + b"\n"
    elif how < 0.9:
        lines.insert(draw.randrange(len(lines)), lines[place])
    else:
        draw.shuffle(lines)
    path.write_bytes(b"".join(lines))
    return Damage("lines", f"{name}:{place + 1}", said)


def _node(folder: Path, draw: Draw) -> Damage:
    """A file or folder is missing, or something of another kind stands in its place."""
    path = draw.choice(
        [folder / name for name in (*JSON_FILES, *LINES, "probes", "checkpoints", "checkpoints/0", "checkpoints/7")]
    )
    _remove(path)
    how = draw.choice(["gone", "folder", "pipe", "loop", "dangling", "device", "file"])
    path.parent.mkdir(exist_ok=True) if not path.parent.exists() else None
    if not path.parent.is_dir():
        return Damage("node", f"{path.name}: gone")
    if how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how in ("loop", "dangling", "device"):
        path.symlink_to({"loop": path, "dangling": "nowhere", "device": "/dev/zero"}[how])
    elif how == "file":
        path.write_bytes(b"x")
    return Damage("node", f"{path.name}: {how}")


def _checkpoint(folder: Path, draw: Draw) -> Damage:
    """A checkpoint is copied under another name, loses a file, or gets one of another step."""
    root = folder / "checkpoints"
    steps = [path for path in root.glob("[0-9]*") if path.is_dir()] if root.is_dir() else []
    if not steps:
        return _raw(folder, draw)
    path, how = draw.choice(steps), draw.random()
    if how < 0.4:
        name = draw.choice(["14", "007", "-1", "\u0663", "99999999999999999999999", "1e3", "19"])
        if not (root / name).exists():
            shutil.copytree(path, root / name)
        newest = name == "19" and all(int(step.name) < 19 for step in steps if step.name.isdecimal())
        return Damage("checkpoint", f"{path.name} as {name}", ("generate", "probe") if newest else ())
    files = sorted(path.iterdir())
    if not files:
        return _raw(folder, draw)
    file, other = draw.choice(files), draw.choice(steps) / draw.choice(files).name
    if how < 0.7 or not other.is_file() or other == file:
        _remove(file)
    else:
        shutil.copy(other, file)
    return Damage("checkpoint", file.relative_to(folder).as_posix())


def _name(folder: Path, draw: Draw) -> Damage:
    """Files with strange names and left-overs lie in the folder."""
    odd = draw.choice(
        ["a\nb", "\x1b[31m", "[/red]", "$x$", "\udcff", "x" * 200, ".run.json.1.tmp", "run.json.bak", "\u202e"]
    )
    for place in ("", "probes/", "checkpoints/"):
        path = folder / f"{place}{odd}{'.jsonl' if place == 'probes/' else ''}"
        if path.parent.is_dir():
            path.write_bytes(draw.choice(RAW))
    return Damage("name", ascii(odd))


KINDS: list[Kind] = [
    _field,
    _field,
    _field,
    _experiment,
    _raw,
    _bytes,
    _bytes,
    _tensors,
    _lines,
    _lines,
    _node,
    _checkpoint,
    _name,
]


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and "lock" not in path.name
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes()) if path.is_file() else {}  # an endless device may stand there
    except (ValueError, OSError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _write(path: Path, values: Any) -> None:
    _remove(path)
    path.write_text(json.dumps(values))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
