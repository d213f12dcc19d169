"""Train: what becomes of the button, what the live view shows, and what an earlier visit left."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from playground.running import launcher
from playground.running.cores import cores
from playground.running.launcher import Job
from playground.running.presets import make_config
from playground.runs.lock import LOCK
from playground.runs.steps import RESUME
from playground.runs.store import Run
from playground.runs.writing import append_line
from playground.ui.shared.text import plain
from playground.ui.shared.words import short
from tests.fake_runs import write_run
from tests.ui.conftest import Resumed
from tests.ui.support import (
    Training,
    array,
    assert_well,
    change_json,
    entry,
    figures,
    go,
    labels,
    legend,
    open_app,
    open_page,
    words,
    write_job,
)


def train() -> AppTest:
    return open_page("train")


def bars(app: AppTest) -> list[str]:
    return [str(bar.text) for bar in app.get("progress")]


def press(app: AppTest, label: str) -> AppTest:
    """Press the button whose label begins so."""
    (button,) = [button for button in app.button if button.label.startswith(label)]
    button.click().run()
    assert_well(app)
    return app


class Launcher:
    """Takes the place of `start_job`: writes the job file, and a process that waits in the place of the worker."""

    def __init__(self, training: Training) -> None:
        self.asked: list[dict[str, Any]] = []
        self.training = training
        self.error: Exception | None = None

    def __call__(self, folder: Path, preset: str, models: list[tuple[int, int]], **options: Any) -> Job:
        self.asked.append({"folder": folder, "preset": preset, "models": models} | options)
        if self.error is not None:
            raise self.error
        entries = [entry(f"new-{n}-{seed}", preset=preset, n_future=n, seed=seed) for n, seed in models]
        return write_job(folder, *entries, by=self.training)


@pytest.fixture
def start(training: Training, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    start = Launcher(training)
    monkeypatch.setattr(launcher, "start_job", start)
    return start


def test_one_press_starts_what_is_preset(runs: Path, start: Launcher) -> None:
    app = press(train(), "Train 2 models")
    assert start.asked == [
        {
            "folder": runs,
            "preset": "induction-cpu",
            "models": [(1, 0), (2, 0)],
            "control": "layers",
            "steps": make_config("induction-cpu").train.steps,
            "objective": "n_token",
            "parallel": min(2, cores()),
        }
    ]
    assert bars(app) == ["Starting 2 trainings: loading PyTorch takes a few seconds"]
    assert {"Stop", "Train something else"} <= {*labels(app, "button"), *labels(app, "expander")}


@pytest.mark.parametrize("error", [ValueError("n_future 9 leaves no trunk"), OSError(28, "No space left on device")])
def test_a_job_that_cannot_be_started_is_told_and_the_form_stays(runs: Path, start: Launcher, error: Exception) -> None:
    start.error = error
    app = press(train(), "Train 2 models")
    assert f"Nothing was started: {plain(error)}" in words(app)
    assert "Train 2 models" in labels(app, "button")
    assert "Stop" not in labels(app, "button")
    start.error = None
    assert "Stop" in labels(press(app, "Train 2 models"), "button")


def test_a_job_is_followed_from_start_to_end(runs: Path, start: Launcher) -> None:
    app = press(train(), "Train 2 models")
    (one, two) = (f"new-{n}-0" for n in (1, 2))
    path = start.training.write_run(runs, steps=100, done=0.1).rename(runs / one)
    job = write_job(runs, entry(one, "running"), entry(two, "queued", n_future=2), by=start.training)
    app.run()
    pace = short(Run(path).record.tokens_per_second)
    assert bars(app) == [f"**n = 1**, layers, seed 0: step 10 of 100, {pace} tokens/s, about 5 seconds left"]
    assert "Waiting: n = 2, layers, seed 0" in words(app)
    change_json(path / "run.json", status="finished", step=100)
    write_run(runs, n_future=2, steps=100, state="failed").rename(runs / two)
    write_job(runs, entry(one, "finished"), entry(two, "failed", n_future=2), by=start.training, name=job.id)
    app.run()
    assert_well(app)
    assert "**Done**: 1 run finished, 1 run failed." in words(app)
    assert "This training failed: the loss of offset 1 became nan at step 3." in words(app)
    assert "Train again" in words(app) and "Stop" not in labels(app, "button")
    assert "Compare the runs" in labels(app, "page_link")


def test_what_did_not_start_is_told_with_its_reason(runs: Path, start: Launcher) -> None:
    app = press(train(), "Train 2 models")
    write_job(runs, entry("new-1-0", "failed", message="RuntimeError: no memory"), entry("b", "stopped", n_future=2))
    app.run()
    assert_well(app)
    assert "**Done**: nothing was trained." in words(app)
    assert [warning.value for warning in app.warning] == [
        "n = 1, layers, seed 0 did not start. RuntimeError: no memory"
    ]
    assert not bars(app)


def test_a_job_whose_process_died_is_told(runs: Path, start: Launcher) -> None:
    app = press(train(), "Train 2 models")
    start.training.kill()
    app.run()
    assert_well(app)
    told = [warning.value for warning in app.warning]
    assert told == [f"n = {n}, layers, seed 0 did not start: the process of its job is gone." for n in (1, 2)]
    assert not bars(app)


def test_stop_ends_the_jobs_process(runs: Path, start: Launcher) -> None:
    app = press(press(train(), "Train 2 models"), "Stop")
    assert start.training.exit_status == -signal.SIGTERM
    assert "Stopping: each run writes a checkpoint first." in words(app)


def test_two_jobs_have_a_stop_button_each(runs: Path, training: Training) -> None:
    other = Training()
    write_job(runs, entry("a", "running"), by=training, name="job-1")
    write_job(runs, entry("b", "running"), by=other, name="job-2")
    app = train()
    assert [label for label in labels(app, "button") if "Stop" in label] == ["Stop", "Stop training 2"]
    press(app, "Stop training 2")
    assert other.exit_status == -signal.SIGTERM
    assert training.process.poll() is None


def test_a_run_of_no_job_has_a_stop_button_of_its_own(runs: Path, training: Training) -> None:
    path = training.write_run(runs, steps=100)
    app = press(train(), f"Stop {path.name}")
    assert training.exit_status == -signal.SIGTERM
    assert f"Stopping {path.name}: it writes a checkpoint first." in words(app)


def test_a_run_on_another_machine_is_shown_but_not_stopped_from_here(runs: Path) -> None:
    write_run(runs, steps=100, state="running", host="elsewhere")
    app = train()
    assert bars(app)[0].startswith("**n = 1**, layers, seed 0: step 60 of 100")
    assert not [label for label in labels(app, "button") if label.startswith("Stop")]


@pytest.mark.parametrize("state", ["stopped", "interrupted"])
def test_a_run_of_an_earlier_visit_can_go_on(runs: Path, resumed: list, state: str) -> None:
    path = write_run(runs, steps=100, state=state)
    for step in ("0", "60"):
        (path / "checkpoints" / step).mkdir(parents=True)
        (path / "checkpoints" / step / RESUME).touch()
    app = train()
    assert "1 run not finished" in labels(app, "expander")
    press(app, f"Resume {path.name} from step 60")
    assert [command[2:5] for command, _ in resumed] == [["playground", "resume", str(path.resolve())]]
    assert "Resuming: loading PyTorch takes a few seconds." in words(app)
    assert not [label for label in labels(app, "button") if label.startswith("Resume")]


def test_a_run_that_did_not_go_on_says_why(runs: Path, resumed: Resumed) -> None:
    path = write_run(runs, steps=100, state="stopped")
    app = press(train(), f"Resume {path.name}")
    (runs / ".jobs" / f"resume-{path.name}.log").write_text("error: the text has changed\n")
    resumed.status = 2
    app.run()
    assert_well(app)
    assert f"{plain(path.name)} was not resumed. {plain('error: the text has changed')}" in words(app)
    assert f"Resume {path.name} from step 0" in words(app)


def test_a_resumed_run_is_followed_to_its_end(runs: Path, resumed: list, training: Training) -> None:
    path = write_run(runs, steps=100, state="stopped")
    app = press(train(), f"Resume {path.name}")
    change_json(path / "run.json", status="running", step=80, updated=1.0, **training.record)
    training.hold(path / LOCK)
    app.run()
    assert "step 80 of 100" in bars(app)[0] and f"Stop {path.name}" in labels(app, "button")
    change_json(path / "run.json", status="finished", step=100)
    assert "**Done**: 1 run finished." in words(app.run())


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_other_runs_are_not_offered_to_go_on(runs: Path, state: str) -> None:
    write_run(runs, steps=100, state=state)
    assert "not finished" not in words(train())


def test_the_newest_of_many_unfinished_runs_are_offered(runs: Path) -> None:
    paths = [write_run(runs, steps=20, seed=seed, state="stopped", created=float(seed)) for seed in range(10)]
    app = train()
    assert "10 runs not finished" in labels(app, "expander")
    offered = [label.split()[1] for label in labels(app, "button") if label.startswith("Resume")]
    assert offered == [path.name for path in paths[:1:-1]]


def test_links_lead_to_the_task_that_was_trained_last(runs: Path) -> None:
    write_run(runs, steps=20, created=1.0)
    write_run(runs, "stories-cpu", steps=20, created=2.0)
    links = {link.label: link.proto.query_string for link in train().get("page_link")}
    assert links == {"Compare the runs": "task=Stories", "Replay how the heads formed": "task=Stories"}


def test_progress_of_the_first_runs_and_a_count_of_the_others(runs: Path) -> None:
    for seed in range(7):
        write_run(runs, steps=100, seed=seed, state="running")
    done = [write_run(runs, steps=100, seed=seed, n_future=2) for seed in range(3)]
    app = open_app()
    app.session_state["watched"] = [path.name for path in done]
    app.run()
    assert_well(app)
    assert len(bars(app)) == 8
    assert "and 2 more runs, 2 of them finished" in words(app)


def test_figures_show_what_is_stored_so_far(runs: Path) -> None:
    paths = [write_run(runs, steps=200, n_future=n_future, state="running") for n_future in (1, 2)]
    drawn = figures(train())
    assert set(drawn) == {
        "live-loss",
        "live-score-repeat_accuracy",
        "live-strongest",
        "live-throughput",
        *(f"live-map-{path.name}" for path in paths),
    }
    for path in paths:
        run = Run(path)
        losses = run.metrics["loss_1"].dropna()
        lines = [array(line["y"]) for line in drawn["live-loss"]["data"] if path.name in line["hovertemplate"]]
        np.testing.assert_allclose(lines[0], losses)
        assert len(lines) == run.record.n_future
        (heat_map,) = drawn[f"live-map-{path.name}"]["data"]
        np.testing.assert_allclose(array(heat_map["z"]), run.attention.results[-1].prefix_matching)
        (strongest,) = [
            array(line["y"]) for line in drawn["live-strongest"]["data"] if path.name in line["hovertemplate"]
        ]
        assert strongest[-1] == run.attention.results[-1].prefix_matching.max()
    assert legend(drawn["live-score-repeat_accuracy"]) == ["n = 1 (1 seed)", "n = 2, layers (1 seed)"]


def test_a_figure_is_made_anew_only_when_there_is_something_new(runs: Path) -> None:
    path = write_run(runs, steps=200, state="running")
    app = train()
    before = dict(app.session_state["drawn"])
    app.run()
    assert all(app.session_state["drawn"][name][1] is figure for name, (_, figure) in before.items())
    row = {"kind": "train", "step": 130, "tokens": 1, "seconds": 1.0, "loss_1": 0.5}
    append_line(path / "metrics.jsonl", row)
    app.run()
    (line,) = figures(app)["live-loss"]["data"]
    assert array(line["y"])[-1] == 0.5
    assert app.session_state["drawn"]["live-strongest"][1] is before["live-strongest"][1]


def test_the_system_stands_below_the_charts_of_a_training(runs: Path) -> None:
    path = write_run(runs, steps=200, state="running", matmul_flops=1e12, peak_memory=2**30)
    write_run(runs, steps=200, n_future=2)
    app = train()
    rate = short(Run(path).record.tokens_per_second)
    assert f"**System**: now {rate} tokens/s over 1 model" in words(app)
    (shown,) = app.dataframe[0].value.to_dict("records")
    assert shown == {
        "model": "n = 1",
        "seed": 0,
        "now": f"{rate} tokens/s",
        "peak memory": "1 GiB",
        "device": "cpu (1 thread)",
        "models a process": 1,
    }
    (line,) = figures(app)["live-throughput"]["data"]
    np.testing.assert_allclose(array(line["y"]), Run(path).record.tokens_per_second, rtol=1e-3)


def test_the_system_of_all_models_in_training_is_added_up(runs: Path) -> None:
    paths = [write_run(runs, steps=200, seed=seed, state="running") for seed in range(3)]
    rate = short(sum(Run(path).record.tokens_per_second for path in paths))
    assert f"**System**: now {rate} tokens/s over 3 models" in words(train())


def test_the_system_of_ended_trainings_tells_their_speed(runs: Path) -> None:
    path = write_run(runs, steps=200)
    app = open_app()
    app.session_state["watched"] = [path.name]
    app.run()
    assert_well(app)
    assert "**System**: speed, and how much of the device was used" in words(app)
    assert app.dataframe[0].value["speed"].tolist() == [f"{short(Run(path).record.tokens_per_second)} tokens/s"]


def test_a_training_without_a_row_has_no_system_yet(runs: Path) -> None:
    write_run(runs, steps=200, done=0, state="running")
    app = train()
    assert "System" not in words(app) and "live-throughput" not in figures(app)


def test_throughput_is_drawn_anew_only_with_a_new_row(runs: Path) -> None:
    path = write_run(runs, steps=200, state="running")
    app = train()
    before = app.session_state["drawn"]["live-throughput"][1]
    assert app.run().session_state["drawn"]["live-throughput"][1] is before
    row = {"kind": "train", "step": 130, "tokens": 10**7, "seconds": 100.0, "loss_1": 0.5}
    append_line(path / "metrics.jsonl", row)
    app.run()
    (line,) = figures(app)["live-throughput"]["data"]
    assert len(array(line["y"])) == len(array(json.loads(before.to_json())["data"][0]["y"])) + 1


def test_a_training_of_several_tasks_has_a_score_figure_each(runs: Path) -> None:
    for preset in ("induction-cpu", "bytes-cpu"):
        write_run(runs, preset, steps=100, state="running")
    assert {"live-score-repeat_accuracy", "live-score-bits_per_byte"} <= set(figures(train()))


def test_more_heat_maps_than_there_is_room_for(runs: Path) -> None:
    for seed in range(10):
        write_run(runs, steps=40, seed=seed, state="running")
    app = train()
    assert len([name for name in figures(app) if name.startswith("live-map-")]) == 8
    assert "The page Heads shows the other 2." in words(app)


def test_a_training_goes_on_while_other_pages_are_looked_at(runs: Path, start: Launcher) -> None:
    app = press(train(), "Train 2 models")
    go(app, "compare")
    go(app, "train")
    assert_well(app)
    assert bars(app) == ["Starting 2 trainings: loading PyTorch takes a few seconds"]


def test_something_else_can_be_trained_meanwhile(runs: Path, start: Launcher) -> None:
    write_run(runs, steps=100, state="running", seed=5)
    app = press(train(), "Train 2 models")
    assert len(start.asked) == 1
    assert any("Starting 2 trainings" in text for text in bars(app)) or "Waiting" in words(app)
    assert any("seed 5: step 60 of 100" in text for text in bars(app))
