"""Commands whose streams are closed or full, and whose memory is used up: a sentence where one can be written, no traceback."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import playground.cli as cli
from playground.cli import main
from playground.terminal import say
from tests.conftest import ROOT
from tests.fake_runs import write_run

COMMANDS = (["runs", "show", "RUN"], ["compare", "RUN"], ["train", "--help"])


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_and_full_streams(tmp_path: Path, closed: str) -> None:
    """In one shell, as starting Python takes longest."""
    run = write_run(tmp_path, steps=20).name
    lines = []
    for command in COMMANDS:
        words = " ".join(f"'{word}'" for word in command).replace("RUN", run)
        lines.append(f"'{sys.executable}' -m playground {words} {closed} || exit 1")
    environment = os.environ | {"PLAYGROUND_RUNS_DIR": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


def test_a_line_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    say("step 1")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_is_used_up_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "train_command", fail)
    assert main(["train"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory") and said.count("\n") == 1


def test_another_error_of_torch_is_not_taken_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_argv: list[str]) -> int:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(cli, "train_command", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        main(["train"])


def test_a_long_path_in_an_error_is_shortened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", "x" * 5000)
    assert main(["runs", "list"]) == 2
    assert len(capsys.readouterr().err) < 1200
