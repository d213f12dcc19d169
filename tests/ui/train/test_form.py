"""The settings of a training: what the page asks for, what it offers, and how long it says it takes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from playground.config import RunConfig
from playground.running import existing, jobs
from playground.running.cores import cores
from playground.running.presets import PRESETS, make_config
from playground.ui.train import form as train_form
from playground.ui.train.estimate import replica_cost, times
from playground.ui.train.form import CHOICES_OF_N
from tests.fake_runs import write_run
from tests.ui.support import assert_well, entry, go, labels, open_page, widget, words, write_job

TITLES = {"induction": "Induction", "stories": "Stories", "polynomial": "Polynomials", "bytes": "Bytes"}


@pytest.fixture
def asked(runs: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `start_job` was asked for, without the folder; nothing is started."""
    calls: list[dict[str, Any]] = []

    def start_job(folder: Path, configs: list[RunConfig], *, parallel: int, by: str) -> jobs.Job:
        assert folder == runs and by == "app"
        models = [(config.model.n_future, config.seed) for config in configs]
        n_futures, seeds = (list(dict.fromkeys(numbers)) for numbers in zip(*models, strict=True))
        ((preset, control, steps),) = {(one.preset, one.model.control, one.train.steps) for one in configs}
        told = {"preset": preset, "control": control, "steps": steps, "parallel": parallel}
        calls.append(told | {"n_futures": n_futures, "seeds": seeds, "models": models})
        return write_job(folder, entry("new", "finished"))

    monkeypatch.setattr(jobs, "start_job", start_job)
    return calls


def form(**choices: Any) -> AppTest:
    """The page with these settings, chosen one after another, as widgets appear with the choices before them."""
    app = open_page("train")
    for key, value in choices.items():
        widget(app, key.replace("_", "-")).set_value(value)
        app.run()
        assert_well(app)
    return app


def options(app: AppTest, key: str) -> list[str]:
    return widget(app, key).options


DEFAULT = {"preset": "induction-cpu", "n_futures": [1, 2], "seeds": [0], "control": "layers"}


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, {}),
        ({"n-induction-cpu-layers": [1]}, {"n_futures": [1]}),
        ({"n-induction-cpu-layers": [2, 1]}, {"n_futures": [1, 2]}),
        ({"seeds": 3}, {"seeds": [0, 1, 2]}),
        ({"seeds": 2, "first-seed": 5}, {"seeds": [5, 6]}),
        ({"steps-induction-cpu": 60}, {"steps": 60}),
        (
            {"control-induction-cpu": "trunk", "n-induction-cpu-trunk": [1, 4, 8]},
            {"control": "trunk", "n_futures": [1, 4, 8]},
        ),
        ({"preset-induction": "induction-gpu"}, {"preset": "induction-gpu"}),
        ({"task": "stories"}, {"preset": "stories-cpu"}),
        ({"task": "polynomial", "preset-polynomial": "polynomial-gpu"}, {"preset": "polynomial-gpu"}),
        (
            {"task": "bytes", "n-bytes-cpu-layers": [2], "steps-bytes-cpu": 10, "seeds": 2},
            {"preset": "bytes-cpu", "n_futures": [2], "steps": 10, "seeds": [0, 1]},
        ),
    ],
)
def test_what_is_chosen_is_what_is_trained(
    asked: list[dict[str, Any]], choices: dict[str, Any], expected: dict[str, Any]
) -> None:
    app = form(**choices)
    widget(app, "train").click().run()
    assert_well(app)
    (call,) = asked
    models = len(call["n_futures"]) * len(call["seeds"])
    assert len(call.pop("models")) == models
    usual = 1 if call["preset"].endswith("-gpu") else cores()
    assert call.pop("parallel") == min(models, usual)
    usual_steps = make_config(call["preset"]).train.steps
    assert call == {"steps": usual_steps} | DEFAULT | expected


@pytest.mark.parametrize(("wanted", "models", "parallel"), [(1, 2, 1), (2, 2, 2), (64, 2, 2)])
def test_no_more_trainings_side_by_side_than_there_are(
    asked: list[dict[str, Any]], wanted: int, models: int, parallel: int
) -> None:
    widget(form(**{"parallel-induction-cpu": wanted}), "train").click().run()
    assert asked[0]["parallel"] == parallel


def trained(runs: Path, **options: Any) -> Path:
    """A finished run as the page would train it: with the preset's own steps, and the initial weights of today."""
    return write_run(runs, **({"steps": make_config("induction-cpu").train.steps} | options))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored runs are in float32; on a GPU a training would be in bfloat16, which is another one."""
    monkeypatch.setattr(existing, "pick_device", lambda name: torch.device("cpu"))


@pytest.mark.usefixtures("no_gpu")
def test_what_is_stored_is_named_and_not_trained_again_unless_wanted(asked: list[dict[str, Any]], runs: Path) -> None:
    path = trained(runs, n_future=1, control="trunk")  # with n = 1 every control is the same model
    trained(runs, n_future=2, seed=1, state="stopped")
    app = form(seeds=2)
    assert f"1 model of 4 is already trained, as {path.name}" in words(app)
    assert widget(app, "train").label == "Train 3 models"
    widget(app, "train").click().run()
    assert asked[0]["models"] == [(2, 0), (1, 1), (2, 1)]
    widget(form(seeds=2, again=True), "train").click().run()
    assert asked[1]["models"] == [(1, 0), (2, 0), (1, 1), (2, 1)]


@pytest.mark.usefixtures("no_gpu")
def test_where_all_is_stored_there_is_nothing_to_train(runs: Path) -> None:
    for n_future in (1, 2):
        trained(runs, n_future=n_future)
    app = form()
    assert "2 models of 2 are already trained" in words(app) and widget(app, "train").disabled
    assert not widget(form(**{"steps-induction-cpu": 60}), "train").disabled


def test_nothing_is_started_before_the_button_is_pressed(asked: list[dict[str, Any]]) -> None:
    form(seeds=4)
    assert not asked


def test_every_preset_can_be_chosen_under_its_task(runs: Path) -> None:
    app = form()
    assert options(app, "task") == list(TITLES.values())
    offered = []
    for task in TITLES:
        widget(app, "task").set_value(task)
        app.run()
        offered += options(app, f"preset-{task}")
        assert PRESETS[widget(app, f"preset-{task}").value].summary in words(app)
    assert sorted(offered) == sorted(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("control", ["layers", "trunk"])
def test_only_possible_n_are_offered(runs: Path, name: str, control: str) -> None:
    preset = PRESETS[name].build()
    task, app = preset.task.name, form(task=preset.task.name)
    for key, value in ((f"preset-{task}", name), (f"control-{name}", control)):
        widget(app, key).set_value(value)
        app.run()
    assert_well(app)
    pills = widget(app, f"n-{name}-{control}")
    offered = [int(option) for option in pills.options]
    possible = []
    for n_future in CHOICES_OF_N:
        try:
            make_config(name, n_future=n_future, control=control)
        except ValueError:
            continue
        possible.append(n_future)
    assert offered == possible
    assert ("a larger n needs the control trunk" in pills.help) == (possible != list(CHOICES_OF_N))
    assert pills.value == ([1, 2] if preset.model.n_future == 1 else [preset.model.n_future])


def test_without_an_n_there_is_nothing_to_train(runs: Path, asked: list[dict[str, Any]]) -> None:
    app = form(**{"n-induction-cpu-layers": []})
    assert "Choose at least one n." in words(app)
    assert widget(app, "train").disabled and widget(app, "train").label == "Train"
    assert "about **" not in words(app)


@pytest.mark.parametrize(
    ("choices", "label"),
    [({}, "Train 2 models"), ({"n-induction-cpu-layers": [1]}, "Train 1 model"), ({"seeds": 5}, "Train 10 models")],
)
def test_the_button_says_how_many_models(runs: Path, choices: dict[str, Any], label: str) -> None:
    assert label in labels(form(**choices), "button")


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"n-induction-cpu-layers": [1]}, "1 model: about **"),
        ({"parallel-induction-cpu": 2}, "2 models, side by side: about **"),
        ({"seeds": 5, "parallel-induction-cpu": 2}, "10 models, 2 at a time: about **"),
        ({"preset-induction": "induction-gpu"}, "This preset is made for a GPU, and none was found here"),
        ({"steps-induction-cpu": 100_000}, "hour"),
    ],
)
def test_how_long_it_takes(runs: Path, monkeypatch, choices: dict[str, Any], says: str) -> None:
    monkeypatch.setattr(train_form, "_has_gpu", lambda: False)
    assert says in words(form(**choices))


@pytest.mark.parametrize(
    ("choices", "gpu", "says"),
    [
        ({"seeds": 4, "parallel-induction-cpu": 2}, False, "4 seeds: about **4x** the time of one on this device."),
        (
            {"seeds": 4, "n-induction-cpu-layers": [1], "parallel-induction-cpu": 2},
            False,
            "4 seeds: about **2x** the time",
        ),
        (
            {"seeds": 16, "n-induction-cpu-layers": [1]},
            True,
            f"16 seeds: about **{times(replica_cost(16, 'cuda', 64 * 64))}** the",
        ),
        ({"seeds": 16, "preset-induction": "induction-gpu"}, True, "32 models, the seeds of each n in one process"),
    ],
)
def test_what_the_seeds_cost(runs: Path, monkeypatch, choices: dict[str, Any], gpu: bool, says: str) -> None:
    monkeypatch.setattr(train_form, "_has_gpu", lambda: gpu)
    assert says in words(form(**choices))


def test_one_seed_has_no_cost_of_seeds(runs: Path) -> None:
    assert "the time of one" not in words(form())


def test_with_a_gpu_its_presets_are_nothing_special(runs: Path, monkeypatch) -> None:
    monkeypatch.setattr(train_form, "_has_gpu", lambda: True)
    assert "made for a GPU" not in words(form(**{"preset-induction": "induction-gpu"}))


def test_earlier_runs_are_the_measure(runs: Path) -> None:
    app = form()
    assert "a guess until a first run has been measured here" in words(app)
    for n_future in (1, 2):
        write_run(runs, n_future=n_future, seed=7)
    assert "(from earlier runs here)" in words(app.run())


def test_settings_stay_while_other_pages_are_looked_at(runs: Path, asked: list[dict[str, Any]]) -> None:
    app = form(**{"seeds": 3, "steps-induction-cpu": 50, "n-induction-cpu-layers": [2]})
    go(app, "about")
    go(app, "train")
    widget(app, "train").click().run()
    assert [(call["seeds"], call["steps"], call["n_futures"]) for call in asked] == [([0, 1, 2], 50, [2])]
