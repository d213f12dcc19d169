"""Ctrl-C, SIGTERM and SIGHUP for the command line, from its first moment on."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.test_cli import ENVIRONMENT, TINY


def test_ctrl_c_is_quiet_from_the_first_moment_on(tmp_path):
    """While Python starts, before it has found this program, its own handler answers, with a traceback."""
    command = [sys.executable, "-m", "playground", "train", *TINY, "--steps", "100000", "--runs-dir", str(tmp_path)]
    for delay in (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
        not_yet_here = "Fatal Python error: init_" in error or "<frozen runpy>" in error
        if not_yet_here and f'File "{ROOT / "playground"}' not in error:
            continue
        assert process.returncode in (130, -signal.SIGINT), (delay, error)
        assert "Traceback" not in error, (delay, error)


ENDLESS = """
import sys, time
from playground.cli import main
from playground.running import runner
def make_task(config):
    sys.stderr.write("loading\\n")
    time.sleep(600)
runner.make_task = make_task
sys.exit(main(sys.argv[1:]))
"""
"""The command line with a task whose text is endless."""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "stopped by Ctrl-C"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
def test_a_signal_ends_a_load_that_never_ends(tmp_path, number, status, said):
    argv = ["train", *TINY, "--runs-dir", str(tmp_path / "runs")]
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *argv], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stderr is not None and process.stderr.readline() == "loading\n"
    process.send_signal(number)
    sent = time.monotonic()
    assert process.communicate(timeout=60)[1] == f"{said}\n"
    assert process.returncode == status and time.monotonic() - sent < 10
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_a_checkpoint_and_says_how_to_resume(tmp_path, number, status):
    command = [
        sys.executable,
        "-m",
        "playground",
        "train",
        *TINY,
        "--steps",
        "100000",
        "--runs-dir",
        str(tmp_path),
        "--run-id",
        "long",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    metrics = tmp_path / "long" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == status
    assert "go on with: python -m playground resume long" in error
    record = json.loads((tmp_path / "long" / "run.json").read_text())
    assert record["status"] == "stopped"
    assert (tmp_path / "long" / "checkpoints" / str(record["step"])).is_dir()
