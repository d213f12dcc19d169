"""Every command on runs whose texts are attempts: escape codes and rich's markup are printed as themselves, in every encoding."""

import io
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from playground.cli import main
from playground.runs.store import load_run
from playground.terminal import Live, rows_table, say, shown, tell
from tests.conftest import ROOT
from tests.hostile import HOSTILE, NAME, SHOWN, write_hostile

WITH_WEIGHTS = f"{NAME} 2"
COMMANDS = {
    "list": ["runs", "list"],
    "show": ["runs", "show", WITH_WEIGHTS],
    "show of no task": ["runs", "show", f"{NAME} 1"],
    "compare": ["compare", f"{NAME} 1", WITH_WEIGHTS],
    "compare in lines": ["compare", *[f"{NAME} 1", WITH_WEIGHTS] * 3],
    "probe": ["probe", WITH_WEIGHTS, "--probe", "composition"],
    "formation": ["formation", WITH_WEIGHTS, f"{NAME} 3"],
    "formation of one": ["formation", WITH_WEIGHTS],
    "generate": ["generate", WITH_WEIGHTS, "--max-new-tokens", "4"],
    "no such run": ["runs", "show", HOSTILE],
    "no such command": [HOSTILE],
    "no such option": ["runs", "list", f"--{HOSTILE}"],
    "no such probe": ["probe", WITH_WEIGHTS, "--probe", HOSTILE],
    "no such step": ["probe", WITH_WEIGHTS, "--step", HOSTILE],
    "no prompt": ["generate", WITH_WEIGHTS, "--prompt", HOSTILE],
    "resume of no task": ["resume", f"{NAME} 1"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / NAME / "[red]runs[/y]"
    folder.mkdir(parents=True)
    write_hostile(folder, name=f"{NAME} 1")
    write_hostile(folder, task="induction", state="finished", n_future=2, name=WITH_WEIGHTS)
    write_hostile(folder, task="induction", state="finished", n_future=2, seed=1, name=f"{NAME} 3")
    (folder / f"{NAME} 4").mkdir()
    (folder / "x\x1b[31m").mkdir()
    return folder


def said(text: str) -> str:
    """What was printed, with the cells of tables put together again and without white space."""
    lines = [re.split("[│┃]", line)[1:-1] for line in text.splitlines() if re.match("[│┃]", line)]
    columns = ["".join(cell.strip() for cell in column) for column in itertools.zip_longest(*lines, fillvalue="")]
    return re.sub(r"\s", "", "\n".join([*columns, text]))


@pytest.mark.parametrize("name", COMMANDS)
def test_texts_are_printed_as_themselves(
    runs: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(runs))
    status = main(COMMANDS[name])
    out, err = capsys.readouterr()
    assert status == (2 if name.startswith(("no ", "resume", "show of")) else 0), err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out + err) and "Traceback" not in err
    everything = said(out + err)
    if not name.startswith(("no ", "generate")) and name != "formation":
        assert re.sub(r"\s", "", NAME) in everything
    if name == "show":
        assert re.sub(r"\s", "", SHOWN) in everything
    if name.startswith("no "):
        assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_encoding_can_write_them(runs: Path, encoding: str) -> None:
    environment = os.environ | {"PLAYGROUND_RUNS_DIR": str(runs), "PYTHONIOENCODING": encoding}
    for command in (COMMANDS["list"], COMMANDS["show"], COMMANDS["no such run"]):
        done = subprocess.run(
            [sys.executable, "-m", "playground", *command], cwd=ROOT, env=environment, capture_output=True, timeout=120
        )
        assert b"Traceback" not in done.stderr and b"\x1b" not in done.stdout + done.stderr
        assert "![x]" in done.stdout.decode(encoding) + done.stderr.decode(encoding)


@pytest.mark.parametrize(
    ("print_it", "stream"), [(say, "err"), (tell, "out"), (lambda text: rows_table([{text: text}], text), "out")]
)
def test_one_line_stays_one_line(
    print_it: Callable[[str], None], stream: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_it("[/y] [red]z\x1b[31m\nerror: none\ud800")
    text = getattr(capsys.readouterr(), stream)
    assert r"[/y] [red]z\x1b[31m\nerror: none\ud800" in text and "\x1b" not in text


def test_a_live_line_is_no_markup(runs: Path) -> None:
    record = load_run(runs / WITH_WEIGHTS).record
    live = Live()
    live.progress.live.console = Console(file=io.StringIO(), width=400)
    live.bars[record.run] = live.progress.add_task("", total=9, losses="", score="", speed="")
    live.row({"kind": "eval", HOSTILE: 0.5}, record)
    with live.progress.live.console.capture() as captured:
        live.progress.live.console.print(live.progress.get_renderable())
    assert f"{SHOWN} 0.500" in captured.get()


def test_shown() -> None:
    assert shown("a\n\x1b[1m é", "ascii") == r"a\n\x1b[1m \xe9" and shown("é", None) == "é"
