"""The runs that the campaign works on: trained once, then copied."""

import atexit
import contextlib
import functools
import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playground.cli import main

TINY = ["--task", "induction", "--n-layers", "3", "--n-future", "2", "--d-model", "16", "--n-heads", "2", "--n-ctx", "16",
        "--max-distance", "6", "--min-distance", "3", "--d-vocab", "11", "--batch-size", "8", "--eval-every", "10",
        "--log-every", "4", "--checkpoint-every", "7", "--threads", "1", "--probe-points", "4", "--steps", "20",
        "--test-rows", "16", "--quick-rows", "8", "--device", "cpu"]  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    status: int
    out: str
    error: str


def call(*argv: str) -> Answer:
    """Run a command in this process. An exception that leaves it is a fault: it would be a traceback."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main(argv)
        except SystemExit as stop:
            status = int(stop.code or 0)
    return Answer(status, out.getvalue(), error.getvalue())


@functools.cache
def template() -> Path:
    """A folder with a finished run, `whole`, and the same run stopped at step 9, `stopped`."""
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    assert call("train", *TINY, "--runs-dir", str(folder), "--run-id", "whole", "--json").status == 0
    from playground.running.runner import train
    from playground.runs.store import load_run

    config = load_run(folder / "whole").config
    asked = iter(range(10**6))
    train(config, folder, run_id="stopped", should_stop=lambda: "enough" if next(asked) == 9 else "")
    for path in folder.rglob(".*lock"):
        path.unlink()
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    """The contents of every regular file of a folder but the locks."""
    found: dict[str, bytes] = {}
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root, name)
            if not name.endswith(".lock") and path.is_file() and not path.is_symlink():
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def rows(folder: Path, place: str = "") -> dict[tuple[str, str, int], bytes]:
    """The good lines of metrics and probes, by file, kind and step, without their times; or those of the folder `place`."""
    found: dict[tuple[str, str, int], bytes] = {}
    paths = [folder / place] if place else [folder, folder / "probes"]
    for path in sorted(path for one in paths for path in one.glob("*.jsonl")):
        if not path.is_file():
            continue
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                row = json.loads(line)
                row.pop("seconds", None)
                found[path.name, row.get("kind", ""), row["step"]] = json.dumps(row, sort_keys=True).encode()
    return found
