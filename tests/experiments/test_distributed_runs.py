"""Stored runs of two processes: one folder, stopping and resuming bit for bit, failing, and a process that is killed."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from playground import load_run
from playground.config import ModelConfig, OptimConfig, RunConfig, TrainConfig
from playground.experiments.runner import NonFiniteLoss, resume, train
from playground.experiments.torchrun import here, launched, resume_line
from playground.training.distributed import ProcessFailed
from tasks.induction import InductionConfig
from tests.experiments.test_runner import same_numbers
from tests.several_processes import free_port, like_torchrun, on_processes

LAYOUTS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "fsdp": {"parallel": "fsdp", "backward": "one_graph"},
}


def _config(lr: float = 3e-3, **parts: Any) -> RunConfig:
    values = {"steps": 12, "batch_size": 8, "eval_every": 5, "log_every": 4, "checkpoint_every": 4, "probes": ("behaviour",),
              "probe_points": 4, "threads": 1, "device": "cpu"}  # fmt: skip
    return RunConfig(
        task=InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=16),
        model=ModelConfig(n_layers=3, n_heads=2, d_model=16, n_future=2),
        optim=OptimConfig(lr=lr, warmup_steps=5),
        train=TrainConfig(**(values | parts)),
    )


def _process(rank: int, folder: Path) -> None:
    like_torchrun(rank, json.loads((folder / "port").read_text()))
    told: dict[str, str] = {}
    for name, layout in LAYOUTS.items():
        config = _config(**layout)
        train(config, folder, run_id=f"{name}-whole")
        asked = iter(range(100))  # the second process is the one that is asked to stop
        run = train(config, folder, run_id=name, should_stop=lambda: "enough" if next(asked) == 6 and rank == 1 else "")
        if rank == 0:
            told[name] = json.dumps(run.record.to_dict())
        resume(run)
    for name, config, error in (
        ("uneven", _config(batch_size=9), ValueError),
        ("diverging", _config(lr=1e30), NonFiniteLoss),
    ):
        with pytest.raises(error if rank == 0 else ProcessFailed) as raised:
            train(config, folder, run_id=name)
        told[name] = str(raised.value)
    (folder / f"told-{rank}.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Runs of two processes."""
    folder = tmp_path_factory.mktemp("runs")
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
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "ddp",
        "ddp-whole",
        "fsdp",
        "fsdp-whole",
        "diverging",
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_stop_at_the_same_step_and_go_on_as_if_nothing_had_happened(folder, name):
    stopped = json.loads(_told(folder, 0)[name])
    assert (stopped["status"], stopped["reason"], stopped["step"]) == (
        "stopped",
        "another process was asked to stop",
        6,
    )
    assert load_run(folder / name).record.state == "finished"
    same_numbers(folder / name, folder / f"{name}-whole")


def test_sharded_or_whole_the_numbers_are_the_same(folder):
    ours, theirs = (load_run(folder / f"{name}-whole").metrics for name in LAYOUTS)
    for column in ("loss_1", "loss_2", "test_loss_1", "test_loss_2", "grad_norm"):
        assert ours[column].dropna().tolist() == pytest.approx(theirs[column].dropna().tolist(), rel=1e-4)


def test_rows_that_cannot_be_shared_out_are_refused_before_anything_is_written(folder):
    assert "a batch of 9 rows does not divide evenly among 2 processes" in _told(folder, 0)["uneven"]
    assert not (folder / "uneven").exists()


def test_when_the_first_process_fails_the_others_end_as_well(folder):
    assert "at step" in _told(folder, 0)["diverging"]
    assert _told(folder, 1)["diverging"] == "another process of this training failed"
    assert load_run(folder / "diverging").record.state == "failed"


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


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "playground"]


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_run_goes_on(tmp_path):
    config = _config(steps=100_000, checkpoint_every=20, eval_every=100_000, probe_points=0)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    options = ["train", "--config", str(tmp_path / "config.json"), "--run-id", "killed", "--runs-dir", str(tmp_path)]
    with (tmp_path / "said").open("w") as said:
        torchrun = subprocess.Popen([*TORCHRUN, *options], stderr=said, cwd=Path(__file__).parents[2])
        checkpoints = tmp_path / "killed" / "checkpoints"
        _wait(lambda: torchrun.poll() is not None or (checkpoints / "40").exists())
        workers = psutil.Process(torchrun.pid).children()
        second = next(worker for worker in workers if worker.environ().get("RANK") == "1")
        second.kill()
        assert torchrun.wait(60) != 0
    said = (tmp_path / "said").read_text()
    line = f"another process of this training ended; go on with: torchrun --nproc-per-node 2 -m playground resume killed --runs-dir {tmp_path}"
    assert line in said
    assert "Traceback" not in said.split(line)[0]
    record = load_run(tmp_path / "killed").record
    assert (record.state, record.reason) == ("failed", "another process of this training ended")

    path = tmp_path / "killed" / "config.json"
    stored = RunConfig.from_dict(json.loads(path.read_text()))
    steps = load_run(tmp_path / "killed").checkpoints[-1] + 4
    shorter = dataclasses.replace(stored, train=dataclasses.replace(stored.train, steps=steps))
    path.write_text(json.dumps(shorter.to_dict()))
    done = subprocess.run([*TORCHRUN, "resume", "killed", "--runs-dir", str(tmp_path), "--json"], cwd=Path(__file__).parents[2],
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    assert load_run(tmp_path / "killed").record.step == steps


def _wait(until, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)
