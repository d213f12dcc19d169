"""Several trainings at once: each must be what it would be alone, whatever the others do."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from playground import load_run, train_many
from playground.config import OptimConfig, RunConfig
from playground.running import scheduler
from playground.running.children import Child
from playground.running.fitting import fitting_groups, fitting_processes
from playground.running.replicas import resume_many
from playground.running.reporter import Silent
from playground.running.runner import train
from playground.runs.errors import RunError
from playground.runs.probes import probe_files
from playground.training.memory import least_bytes, training_bytes
from tasks.registry import make_task
from tests.running.test_runner import tiny


def seeds(*numbers: int, **train) -> list[RunConfig]:
    return [dataclasses.replace(tiny(**train), seed=seed) for seed in numbers]


def metrics(run) -> list[dict]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def assert_alike(ours, theirs) -> None:
    """Equal up to rounding: rows, scores, probes, weights, the state to go on from; and the same files."""
    for left, right in zip(metrics(ours), metrics(theirs), strict=True):
        assert left.keys() == right.keys()
        assert {key: left[key] for key in ("kind", "step", "tokens")} == {
            key: right[key] for key in ("kind", "step", "tokens")
        }
        values = [[row[key] for key in row if key not in ("kind", "seconds")] for row in (left, right)]
        assert values[0] == pytest.approx(values[1], rel=2e-3, abs=1e-4)
    names = [
        sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file())
        for run in (ours, theirs)
    ]
    assert names[0] == names[1]
    for left, right in zip(probe_files(ours.path), probe_files(theirs.path), strict=True):
        assert [json.loads(line)["step"] for line in left.read_text().splitlines()] == [
            json.loads(line)["step"] for line in right.read_text().splitlines()
        ]
    last = str(theirs.checkpoints[-1])
    for name in ("weights.safetensors", "resume.safetensors"):
        tensors = [load_file(run.path / "checkpoints" / last / name) for run in (ours, theirs)]
        assert tensors[0].keys() == tensors[1].keys()
        for key in tensors[0].keys() - {"seconds"}:
            torch.testing.assert_close(tensors[0][key], tensors[1][key], rtol=1e-2, atol=1e-4)
    assert ours.config == theirs.config
    own = {
        "created",
        "updated",
        "finished",
        "seconds",
        "probe_seconds",
        "tokens_per_second",
        "peak_memory",
        "replicas",
        "final",
        "metrics_sha256",  # of rows that say how long they took
    }
    left, right = (
        {key: value for key, value in run.record.to_dict().items() if key not in own} for run in (ours, theirs)
    )
    assert left == right
    assert ours.record.final == pytest.approx(theirs.record.final, rel=2e-3, abs=1e-4)


def test_stacked_runs_are_stored_as_if_each_had_been_trained_alone(tmp_path):
    rates = [OptimConfig(lr=rate, warmup_steps=5) for rate in (3e-3, 1e-3, 3e-3)]
    configs = [dataclasses.replace(config, optim=optim) for config, optim in zip(seeds(0, 1, 2), rates, strict=True)]
    together = train_many(configs, tmp_path / "together", stacked=True)
    assert [run.record.replicas for run in together] == [3, 3, 3]
    for config, run in zip(configs, together, strict=True):
        assert run.record.state == "finished"
        assert_alike(run, train(config, tmp_path / "alone"))


def test_one_that_diverges_fails_alone(tmp_path):
    configs = seeds(0, 1, 2)
    configs[1] = dataclasses.replace(configs[1], optim=OptimConfig(lr=1e30, warmup_steps=0))
    runs = train_many(configs, tmp_path, stacked=True)
    assert [run.record.status for run in runs] == ["finished", "failed", "finished"]
    assert "became nan at step" in runs[1].record.reason or "became inf at step" in runs[1].record.reason
    assert_alike(runs[2], train(configs[2], tmp_path / "alone"))


def test_when_all_diverge_all_have_failed(tmp_path):
    configs = [dataclasses.replace(one, optim=OptimConfig(lr=1e30, warmup_steps=0)) for one in seeds(0, 1)]
    assert [run.record.status for run in train_many(configs, tmp_path, stacked=True)] == ["failed", "failed"]


def test_stopped_runs_go_on_side_by_side_or_one_by_one(tmp_path):
    def after(steps: int):
        asked = iter(range(10**6))
        return lambda: "enough" if next(asked) > steps else ""

    straight = train_many(seeds(0, 1), tmp_path / "straight", stacked=True)
    for name, go_on in (("together", resume_many), ("alone", lambda runs: [resume_many([run])[0] for run in runs])):
        stopped = train_many(seeds(0, 1), tmp_path / name, stacked=True, should_stop=after(13))
        assert [run.record.status for run in stopped] == ["stopped", "stopped"]
        steps = {run.record.step for run in stopped}
        assert len(steps) == 1 and 0 < steps.pop() < 30
        for run, whole in zip(go_on(stopped), straight, strict=True):
            assert run.record.state == "finished"
            assert [row["step"] for row in metrics(run)] == [row["step"] for row in metrics(whole)]
            torch.testing.assert_close(run.model().state_dict(), whole.model().state_dict(), rtol=1e-2, atol=1e-4)
    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        resume_many(straight)


def test_what_cannot_share_a_stack_is_trained_one_group_after_another(tmp_path):
    configs = seeds(0, 1)
    wider = dataclasses.replace(configs[0], model=dataclasses.replace(configs[0].model, n_future=1))
    runs = train_many([configs[0], wider, configs[1]], tmp_path, stacked=True)
    assert [(run.record.n_future, run.record.seed, run.record.replicas) for run in runs] == [
        (2, 0, 2),
        (1, 0, 1),
        (2, 1, 2),
    ]


def test_runs_that_no_longer_fit_together_go_on_in_groups(tmp_path, monkeypatch):
    asked = iter(range(10**6))
    stopped = train_many(seeds(0, 1), tmp_path, stacked=True, should_stop=lambda: "enough" if next(asked) > 13 else "")
    needed = training_bytes(stopped[0].config, stopped[0].task, "cpu")
    monkeypatch.setattr("playground.running.fitting.free_memory", lambda _device: int(1.5 * needed / 0.9))
    notes = Notes()
    resumed = resume_many(stopped, reporter=notes)
    assert [(run.record.state, run.record.replicas) for run in resumed] == [("finished", 1), ("finished", 1)]
    assert "they are trained 1 at a time" in notes.said[0]


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_more_than_fit_the_memory_are_split_and_the_user_is_told():
    configs, notes = seeds(*range(5)), Notes()
    needed = training_bytes(configs[0], make_task(configs[0].task), "cpu")
    groups = fitting_groups(configs, notes, free=int(2.5 * needed / 0.9) + 1)
    assert [len(group) for group in groups] == [2, 2, 1]
    assert notes.said[0].startswith("5 trainings need about") and notes.said[0].endswith("they are trained 2 at a time")
    assert [len(group) for group in fitting_groups(configs, notes, free=100 * needed)] == [5]
    with pytest.raises(MemoryError, match=r"one training needs .* a smaller"):
        list(fitting_groups(configs, notes, free=needed // 2))


def test_no_more_processes_than_the_memory_holds():
    configs = [config.resolve(d_vocab=11, n_ctx=16) for config in seeds(*range(5))]
    needed = sum(least_bytes(configs[0], half=False))
    assert [fitting_processes(configs, free=int(share * needed / 0.9) + 1) for share in (0.5, 1, 3.5)] == [1, 1, 3]


def test_the_estimate_grows_with_what_needs_memory():
    def needed(**changes):
        config = tiny(**changes)
        return training_bytes(config, make_task(config.task), "cpu")

    assert needed(batch_size=64) > 4 * needed(batch_size=8) > 0
    assert needed(batch_size=64, recompute=True) < needed(batch_size=64)
    assert needed(batch_size=64, accumulate=4) < needed(batch_size=64)
    model = tiny().model
    weights = 16 * sum(count for name, count in train_parameters(model).items() if name == "total")
    assert needed(batch_size=8) > weights


def train_parameters(model) -> dict[str, int]:
    from playground.model.parameters import count_parameters

    config = tiny()
    task = make_task(config.task)
    counts = count_parameters(config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx).model)
    assert model.n_layers == config.model.n_layers
    return {"total": counts.total}


def test_taken_and_missing_ids_are_refused_before_anything_starts(tmp_path):
    train(tiny(steps=1), tmp_path, run_id="there")
    with pytest.raises(RunError, match=r"there is a run 'there' in .* already; choose another id"):
        train_many(seeds(0, 1), tmp_path, run_ids=["new", "there"], stacked=True)
    with pytest.raises(ValueError, match="2 trainings and 1 different run ids; write one id for each"):
        train_many(seeds(0, 1), tmp_path, run_ids=["new", "new"], stacked=True)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_processes_side_by_side_may_differ_in_everything(tmp_path, monkeypatch):
    begun: list[Child] = []

    class Watched(Child):
        def __init__(self, *given: Any) -> None:
            assert not any(child.ended for child in begun), "one waited for the other"
            super().__init__(*given)
            begun.append(self)

    monkeypatch.setattr(scheduler, "Child", Watched)
    monkeypatch.setattr(scheduler, "cores", lambda: 4)
    two, one = *seeds(0), *seeds(1, threads=2)
    one = dataclasses.replace(one, model=dataclasses.replace(one.model, n_future=1))
    runs = train_many([two, one], tmp_path, stacked=False)
    assert [(run.record.n_future, run.record.seed, run.record.replicas) for run in runs] == [(2, 0, 1), (1, 1, 1)]
    assert len(begun) == 2 and [run.record.threads for run in runs] == [1, 2]
    for config, run in zip((two, one), runs, strict=True):
        assert run.record.final == pytest.approx(train(config, tmp_path / "alone").record.final, rel=1e-5)


def test_nothing_to_train_is_nothing_trained(tmp_path):
    assert train_many([], tmp_path) == train_many([], tmp_path, stacked=False) == []


COMMAND = [
    sys.executable, "-m", "playground", "train", "--task", "induction", "--n-layers", "2", "--n-heads", "2", "--d-model", "16",
    "--batch-size", "8", "--probe-points", "0", "--eval-every", "1000",
]  # fmt: skip


@pytest.mark.slow
def test_on_a_cpu_the_command_trains_seeds_in_processes_and_stops_them_all(tmp_path):
    whole = subprocess.run(
        [*COMMAND, "--seeds", "0,2", "--steps", "5", "--runs-dir", tmp_path / "a", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert whole.returncode == 0, whole.stderr
    lines = [json.loads(line) for line in whole.stdout.splitlines()]
    assert [load_run(line["path"]).record.seed for line in lines] == [0, 2]
    assert all(line["status"] == "finished" for line in lines)

    process = subprocess.Popen(
        [*COMMAND, "--seeds", "0..1", "--steps", "100000", "--runs-dir", tmp_path / "b"],
        stderr=subprocess.PIPE,
        text=True,
    )
    started = time.time()
    while (
        len(list((tmp_path / "b").glob("*/checkpoints/0"))) < min(2, os.cpu_count() or 1) and time.time() - started < 60
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: python -m playground resume induction-n1" in said
    runs = [load_run(path) for path in sorted((tmp_path / "b").glob("induction*"))]
    assert runs and all(run.record.status == "stopped" and run.record.reason == "stopped by Ctrl-C" for run in runs)
