"""Stored trainings: what a run folder holds, stopping, failing, and resuming bit for bit after a real kill."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from playground import load_run
from playground.analysis.compare import compare_run
from playground.config import OptimConfig, RunConfig, TrainConfig
from playground.results import Behaviour
from playground.running.runner import NonFiniteLoss, new_run_id, resume, train
from playground.runs.errors import RunError
from playground.runs.lock import run_lock
from playground.runs.probes import probe_files
from tasks.byte_text import ByteTextConfig
from tasks.induction import InductionConfig
from tasks.stories import StoriesConfig
from tests.cases import small_config


def tiny(**train) -> RunConfig:
    """A whole training that takes about a second."""
    values = {
        "steps": 30,
        "batch_size": 8,
        "eval_every": 10,
        "log_every": 4,
        "checkpoint_every": 7,
        "threads": 1,
        "device": "cpu",
    }
    return RunConfig(
        task=InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=32),
        model=small_config(n_future=2, d_vocab=None, n_ctx=None),
        optim=OptimConfig(lr=3e-3, warmup_steps=5),
        train=TrainConfig(**(values | train)),
    )


def same_numbers(ours: Path, theirs: Path) -> None:
    """Metrics (times apart), attention scores and weights equal to the last bit."""
    for name in ("metrics.jsonl", *(f"probes/{path.name}" for path in probe_files(theirs))):
        rows = [[json.loads(line) for line in (path / name).read_text().splitlines()] for path in (ours, theirs)]
        for row in (*rows[0], *rows[1]):
            row.pop("seconds", None)
        assert rows[0] == rows[1]
    last = str(load_run(theirs).checkpoints[-1])
    for name in ("weights.safetensors", "resume.safetensors"):
        tensors = [load_file(path / "checkpoints" / last / name) for path in (ours, theirs)]
        assert tensors[0].keys() == tensors[1].keys()
        assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0] if key != "seconds")


def test_a_run_folder_explains_itself(tmp_path):
    run = train(tiny(), tmp_path)
    assert sorted(path.name for path in run.path.iterdir() if path.name != ".lock") == [
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "probes",
        "run.json",
    ]
    assert [path.stem for path in probe_files(run.path)] == ["attention", "behaviour", "composition", "task_attention"]
    record = load_run(run.path).record
    assert (record.state, record.step, record.tokens) == ("finished", 30, 30 * 8 * 16)
    assert record.scores[0].name == "repeat_accuracy"
    assert set(record.final) >= {"repeat_accuracy", "repeat_loss"}
    assert record.versions["torch"] == torch.__version__
    metrics = run.metrics
    assert metrics[metrics.kind == "eval"].step.tolist() == [0, 10, 20, 30]
    assert metrics[metrics.kind == "train"].step.tolist() == [4, 8, 12, 16, 20, 24, 28, 30]
    assert {"loss_1", "loss_2", "test_loss_1", "test_loss_2", "repeat_accuracy"} <= set(metrics)
    steps = run.config.probe_steps
    assert run.attention.steps == steps and (steps[:4], steps[-1]) == ((0, 1, 2, 3), 30)
    assert run.history("behaviour", Behaviour).tokens == tuple(step * 8 * 16 for step in steps)
    assert 0 < record.probe_seconds
    assert run.attention.results[0].layers == ("blocks.0", "future_heads.0", "future_heads.1")
    assert run.checkpoints == [0, 7, 14, 21, 28, 30]
    assert run.config.model.d_vocab == 11
    assert run.model(7).n_future == 2
    assert run.task.n_ctx == 16


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path):
    first, second = train(tiny(), tmp_path), train(tiny(), tmp_path)
    assert second.id == f"{first.id}-2"
    same_numbers(first.path, second.path)
    other = train(dataclasses.replace(tiny(), seed=1), tmp_path)
    assert other.metrics.loss_1.dropna().tolist() != first.metrics.loss_1.dropna().tolist()


def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = train(tiny(), tmp_path / "whole")
    asked = iter(range(1000))
    stopped = train(tiny(), tmp_path / "stopped", should_stop=lambda: "enough" if next(asked) == 17 else "")
    assert (stopped.record.state, stopped.record.reason, stopped.record.step) == ("stopped", "enough", 17)
    resumed = resume(stopped)
    assert resumed.record.state == "finished"
    same_numbers(resumed.path, whole.path)


@pytest.mark.parametrize("attempt", range(3))
def test_kill_9_at_a_random_moment_and_resume_is_bit_identical(tmp_path, attempt):
    program = (
        "import sys; from tests.running.test_runner import tiny; from playground.running.runner import train\n"
        "train(tiny(steps=150), sys.argv[1], run_id='victim')\n"
    )
    environment = os.environ | {"PLAYGROUND_NO_TYPECHECK": "1"}
    victim = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=environment)
    metrics = tmp_path / "victim" / "metrics.jsonl"
    rows_before_kill = random.Random(attempt).randint(1, 30)
    while victim.poll() is None and not (
        metrics.exists() and len(metrics.read_text().splitlines()) >= rows_before_kill
    ):
        time.sleep(0.002)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    killed = load_run(tmp_path / "victim")
    assert killed.record.state == "interrupted"
    resumed = resume(killed)
    assert resumed.record.state == "finished"
    same_numbers(resumed.path, train(tiny(steps=150), tmp_path / "whole").path)


def test_a_line_cut_short_by_a_kill_is_written_again(tmp_path):
    asked = iter(range(1000))
    run = train(tiny(), tmp_path, should_stop=lambda: "enough" if next(asked) == 17 else "")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 18, "lo')
    assert resume(run).metrics.step.max() == 30


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path):
    run = train(tiny(), tmp_path)
    for checkpoint in run.checkpoints:
        for file in (run.path / "checkpoints" / str(checkpoint)).iterdir():
            file.unlink()
        if checkpoint:
            (run.path / "checkpoints" / str(checkpoint)).rmdir()
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] == 0))
    record = json.loads((run.path / "run.json").read_text()) | {"status": "stopped", "step": 0, "final": {}}
    (run.path / "run.json").write_text(json.dumps(record))
    same_numbers(resume(load_run(run.path)).path, train(tiny(), tmp_path).path)


def test_a_loss_that_diverges_fails_and_names_step_and_offset(tmp_path):
    config = dataclasses.replace(tiny(probe_points=0), optim=OptimConfig(lr=1e30, warmup_steps=0, clip=1e30))
    with pytest.raises(
        NonFiniteLoss, match=r"the loss of offset 1 became (nan|inf) at step \d+; train with a lower learning rate"
    ):
        train(config, tmp_path, run_id="diverged")
    record = load_run(tmp_path / "diverged").record
    assert record.state == "failed"
    assert "offset" in record.reason and "step" in record.reason
    assert compare_run(load_run(tmp_path / "diverged")).status == "failed"


def test_a_gradient_that_diverges_is_noticed_before_probes_look_at_the_model(tmp_path):
    config = dataclasses.replace(tiny(log_every=20), optim=OptimConfig(lr=1e30, warmup_steps=0, clip=1e30))
    with pytest.raises(
        NonFiniteLoss, match="the gradient became nan at step 2; train with a lower learning rate"
    ) as raised:
        train(config, tmp_path)
    assert raised.value.run.record.step == 2
    assert list(raised.value.run.attention.steps) == [0, 1]


def test_a_loss_that_diverges_is_noticed_before_anything_is_measured_or_stored(tmp_path):
    config = dataclasses.replace(
        tiny(log_every=20, eval_every=2, checkpoint_every=2), optim=OptimConfig(lr=1e30, warmup_steps=0, clip=1e30)
    )
    with pytest.raises(NonFiniteLoss) as raised:
        train(config, tmp_path)
    run = raised.value.run
    assert run.record.state == "failed" and run.record.step == 2
    assert run.checkpoints == [0] and set(run.attention.steps) <= {0, 1}  # the first loss was finite


def test_an_interrupted_notebook_leaves_a_run_to_go_on_with(tmp_path):
    asked = iter(range(1000))

    def interrupt() -> str:
        if next(asked) == 17:
            raise KeyboardInterrupt
        return ""

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path / "cut", run_id="cut", should_stop=interrupt)
    run = load_run(tmp_path / "cut" / "cut")
    assert (run.record.state, run.record.reason) == ("stopped", "interrupted")
    same_numbers(resume(run).path, train(tiny(), tmp_path / "whole").path)


def test_only_one_process_trains_a_run(tmp_path):
    asked = iter(range(1000))
    run = train(tiny(), tmp_path, should_stop=lambda: "enough" if next(asked) == 9 else "")
    with run_lock(run.path), pytest.raises(RunError, match="is being trained by another process"):
        resume(run)
    earlier = load_run(run.path)
    assert resume(run).record.state == "finished"
    with pytest.raises(RunError, match="is finished"):  # although `earlier` was opened before
        resume(earlier)


def test_a_run_that_goes_on_with_other_text_is_refused(tmp_path, monkeypatch):
    text = tmp_path / "text.py"
    text.write_text("value = 1 + 2\n" * 100)
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(tiny(), task=ByteTextConfig(path="text.py", n_ctx=12, test_rows=4, quick_rows=2))
    asked = iter(range(1000))
    run = train(config, tmp_path / "runs", should_stop=lambda: "enough" if next(asked) == 9 else "")
    assert run.config.task.path == str(text)
    before = text.read_text()
    text.write_text("other = 3\n" * 100)
    with pytest.raises(RunError, match="is not the one that the run was trained on"):
        resume(load_run(run.path))
    text.write_text(before)
    monkeypatch.chdir("/")
    assert resume(load_run(run.path)).record.state == "finished"


def test_scores_that_only_the_last_evaluation_has_are_explained_too(tmp_path):
    config = dataclasses.replace(tiny(steps=2), task=StoriesConfig(n_ctx=48, test_stories=4, n_words=4, n_templates=8))
    record = train(config, tmp_path).record
    assert "second_name_token_accuracy_seen_names" in record.final
    assert set(record.final) <= {score.name for score in record.scores}


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_global_randomness_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    train(tiny(steps=2), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_refusals(tmp_path):
    run = train(tiny(steps=2), tmp_path)
    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        resume(run)
    with pytest.raises(RunError, match="choose another id"):
        train(tiny(steps=2), tmp_path, run_id=run.id)
    with pytest.raises(RunError, match="has no checkpoint at step 1; there are: 0, 2"):
        run.model(1)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no GPU here"):
            train(tiny(device="cuda"), tmp_path)


def test_a_name_in_place_of_a_configuration_says_what_to_write(tmp_path):
    program = f"from playground import train; train('induction-cpu', {str(tmp_path)!r})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "write a RunConfig, such as make_config('induction-cpu')" in result.stderr


def test_ids_are_readable_and_free(tmp_path):
    config = tiny()
    name = new_run_id(config, tmp_path)
    assert name == f"induction-n2-layers-s0-{config.hash()}"
    assert new_run_id(config, tmp_path, {name}) == f"{name}-2"


def test_threads_are_restored(tmp_path):
    before = torch.get_num_threads()
    train(tiny(steps=1), tmp_path)
    assert torch.get_num_threads() == before


def test_a_probe_that_finds_nothing_to_measure_is_refused_before_there_is_a_folder(tmp_path):
    """In rows of three tokens nothing is said again."""
    short = InductionConfig(n_ctx=3, d_vocab=11, min_distance=1, max_distance=1, test_rows=32)
    config = dataclasses.replace(tiny(probes=("patch_heads",)), task=short)
    with pytest.raises(ValueError, match="the probe patch_heads cannot be used here"):
        train(config, tmp_path)
    assert not list(tmp_path.iterdir())
