"""Stored runs of two processes: one folder, stopping and resuming bit for bit, failing, and a process that is killed."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from playground import load_run
from playground.cli import main
from playground.commands import resume_line
from playground.config import ModelConfig, OptimConfig, RunConfig, TrainConfig
from playground.running.runner import NonFiniteLoss, resume, train
from playground.torchrun import here, launched
from playground.training.process_group import ProcessFailed
from tasks.induction import InductionConfig
from tests.running.test_runner import same_numbers
from tests.several_processes import free_port, like_torchrun, on_processes

LAYOUTS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "fsdp": {"parallel": "fsdp", "backward": "one_graph"},
}


PATIENCE = 120
"""Seconds in which torchrun and two processes start or end, on a machine that is busy with other tests."""
SAID = {"--no-such-option": "error: Unrecognized", "--json": "error: the "}
"""What a training that diverges says with these options."""


def _config(lr: float = 3e-3, **parts: Any) -> RunConfig:
    values = {
        "steps": 12,
        "batch_size": 8,
        "eval_every": 5,
        "log_every": 4,
        "checkpoint_every": 4,
        "probes": ("behaviour",),
        "probe_points": 4,
        "threads": 1,
        "device": "cpu",
    }
    return RunConfig(
        task=InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=16),
        model=ModelConfig(n_layers=3, n_heads=2, d_model=16, n_future=2),
        optim=OptimConfig(lr=lr, warmup_steps=5),
        train=TrainConfig(**(values | parts)),
    )


def _process(rank: int, folder: Path) -> None:
    device = (folder / "device").read_text()
    like_torchrun(rank, json.loads((folder / "port").read_text()), device=device)
    told: dict[str, str] = {}
    for name, layout in LAYOUTS.items():
        config = _config(device=device, **layout)
        train(config, folder, run_id=f"{name}-whole")
        reasons = iter(["", "", "", "", "", "", "enough" if rank == 1 else ""])  # the second process is asked to stop
        run = train(config, folder, run_id=name, should_stop=reasons.__next__)
        if rank == 0:
            told[name] = json.dumps(run.record.to_dict())
        resume(run)
    train(_config(device=device), folder, run_id="alone-later", should_stop=iter(["", "", "", "enough"]).__next__)
    for name, config, error in (
        ("uneven", _config(device=device, batch_size=9), ValueError),
        ("diverging", _config(device=device, lr=1e30), NonFiniteLoss),
    ):
        with pytest.raises(error if rank == 0 else ProcessFailed) as raised:
            train(config, folder, run_id=name)
        told[name] = str(raised.value)
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    path = folder / "diverging.json"
    if rank == 0:
        path.write_text(json.dumps(_config(device=device, lr=1e30).to_dict()))
    for option in SAID:
        with (folder / f"said {option} {rank}").open("w") as out, contextlib.redirect_stderr(out):
            main(["train", "--config", str(path), "--runs-dir", str(folder / "by-command"), option])


TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=TWO_GPUS)])
def folder(request, tmp_path_factory) -> Path:
    """Runs of two processes."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "device").write_text(request.param)
    (folder / "port").write_text(str(free_port()))
    on_processes(_process, folder)
    return folder


def _told(folder: Path, rank: int) -> dict[str, str]:
    return json.loads((folder / f"told-{rank}.json").read_text())


@pytest.mark.parametrize("name", LAYOUTS)
def test_several_processes_store_one_run(folder, name):
    run = load_run(folder / f"{name}-whole")
    assert (run.record.state, run.record.step, run.record.tokens) == ("finished", 12, 12 * 8 * 16)
    metrics = run.metrics
    assert metrics[metrics.kind == "train"].step.tolist() == [4, 8, 12]
    assert metrics[metrics.kind == "eval"].step.tolist() == [0, 5, 10, 12]
    assert run.checkpoints == [0, 4, 8, 12]
    assert run.model().n_future == 2
    assert {path.name for path in folder.iterdir() if (path / "run.json").exists()} == {
        "ddp",
        "ddp-whole",
        "fsdp",
        "fsdp-whole",
        "diverging",
        "alone-later",
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_stop_at_the_same_step_and_go_on_as_if_nothing_had_happened(folder, name):
    stopped = json.loads(_told(folder, 0)[name])
    assert (stopped["status"], stopped["reason"], stopped["step"]) == ("stopped", "enough", 6)
    assert load_run(folder / name).record.state == "finished"
    if (folder / "device").read_text() == "cpu":  # on GPUs sums of several threads have no fixed order
        same_numbers(folder / name, folder / f"{name}-whole")


def test_sharded_or_whole_the_numbers_are_the_same(folder):
    ours, theirs = (load_run(folder / f"{name}-whole").metrics for name in LAYOUTS)
    tolerance = 1e-4 if (folder / "device").read_text() == "cpu" else 2e-2
    for column in ("loss_1", "loss_2", "test_loss_1", "test_loss_2", "grad_norm"):
        assert ours[column].dropna().tolist() == pytest.approx(theirs[column].dropna().tolist(), rel=tolerance)


def test_one_process_goes_on_with_the_run_of_two(folder):
    run = load_run(folder / "alone-later")
    assert run.record.step == 3
    done = resume(run).record
    assert (done.state, done.tokens) == ("finished", 12 * 8 * 16)


def test_rows_that_cannot_be_shared_out_are_refused_before_anything_is_written(folder):
    assert "a batch of 9 rows does not divide evenly among 2 processes" in _told(folder, 0)["uneven"]
    assert not (folder / "uneven").exists()


def test_when_the_first_process_fails_the_others_end_as_well(folder):
    assert "at step" in _told(folder, 0)["diverging"]
    assert _told(folder, 1)["diverging"] == "another process of this training failed"
    assert load_run(folder / "diverging").record.state == "failed"


@pytest.mark.parametrize("option", SAID)
def test_of_an_error_the_first_process_speaks_alone(folder, option):
    first, second = ((folder / f"said {option} {rank}").read_text() for rank in (0, 1))
    assert first.startswith(SAID[option]) and first.count("\n") == 1
    assert second == ""


def test_what_torchrun_says(monkeypatch):
    assert (launched(), here()) == (False, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (launched(), here()) == (True, 4)
    assert (
        resume_line(Path("runs/a"), Path("runs/b"))
        == "torchrun --nproc-per-node 4 -m playground resume a b --runs-dir runs"
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert resume_line(Path("runs/a")).startswith("torchrun (on each machine, as before) -m playground resume a")


ROOT = Path(__file__).parents[2]


def _torchrun(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """Two processes with this command, when a checkpoint of theirs is there; what they say is in `folder/said`."""
    before = _last_checkpoint(folder)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "playground"]
    with (folder / "said").open("w") as said:
        torchrun = subprocess.Popen(
            [*start, *command, "--runs-dir", str(folder)],
            stderr=said,
            cwd=ROOT,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
    end = time.monotonic() + PATIENCE
    while torchrun.poll() is None and _last_checkpoint(folder) < before + 20 and time.monotonic() < end:
        time.sleep(0.05)
    assert torchrun.poll() is None and _last_checkpoint(folder) >= before + 20, (folder / "said").read_text()
    return torchrun


def _last_checkpoint(folder: Path) -> int:
    return max((int(path.name) for path in (folder / "run" / "checkpoints").glob("[0-9]*")), default=0)


@pytest.mark.slow
def test_torchrun_is_stopped_then_a_process_is_killed_and_the_run_goes_on_each_time(tmp_path):
    config = _config(steps=100_000, checkpoint_every=20, eval_every=100_000, probe_points=0)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))

    torchrun = _torchrun(tmp_path, "train", "--config", str(tmp_path / "config.json"), "--run-id", "run")
    torchrun.terminate()
    assert torchrun.wait(PATIENCE) != 0
    stopped = load_run(tmp_path / "run").record
    assert (stopped.state, stopped.reason) == ("stopped", "stopped by SIGTERM"), (tmp_path / "said").read_text()
    assert load_run(tmp_path / "run").checkpoints[-1] == stopped.step
    go_on = f"go on with: torchrun --nproc-per-node 2 -m playground resume run --runs-dir {tmp_path}"
    assert f"stopped by SIGTERM at step {stopped.step}; {go_on}" in (tmp_path / "said").read_text()

    torchrun = _torchrun(tmp_path, "resume", "run")
    workers = psutil.Process(torchrun.pid).children()
    next(worker for worker in workers if worker.environ().get("RANK") == "1").kill()
    assert torchrun.wait(PATIENCE) != 0
    said = (tmp_path / "said").read_text()
    line = f"error: another process of this training ended; {go_on}"
    assert line in said and "Traceback" not in said.split(line)[0]  # what comes later is torchrun's
    failed = load_run(tmp_path / "run").record
    assert (failed.state, failed.reason) == ("failed", "another process of this training ended"), said

    steps = _last_checkpoint(tmp_path) + 4
    _shorten(tmp_path / "run", steps)
    (tmp_path / "port").write_text(str(free_port()))
    on_processes(_resume_by_command, tmp_path)
    assert (load_run(tmp_path / "run").record.state, load_run(tmp_path / "run").record.step) == ("finished", steps)
    assert [(tmp_path / f"out-{rank}").read_text().count("finished") for rank in (0, 1)] == [1, 0]


def _shorten(path: Path, steps: int) -> None:
    """Make a stored run one of fewer steps, in all its files."""
    config = load_run(path).config
    shorter = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps))
    (path / "config.json").write_text(json.dumps(shorter.to_dict()))
    for file in (path / "run.json", *path.glob("checkpoints/*/checkpoint.json")):
        file.write_text(file.read_text().replace(config.hash(), shorter.hash()))
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"steps": steps}))


def _resume_by_command(rank: int, folder: Path) -> None:
    like_torchrun(rank, json.loads((folder / "port").read_text()))
    with (folder / f"out-{rank}").open("w") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        assert main(["resume", "run", "--runs-dir", str(folder), "--json"]) == 0
