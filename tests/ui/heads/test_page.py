"""Heads: the runs it offers, its views, and what each says in every state that two runs can be in."""

import builtins
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from playground.results import AttentionScores
from playground.runs.checkpoint import WEIGHTS
from playground.runs.probes import probe_file
from playground.runs.store import Run
from tests.fake_runs import settle, write_many, write_run, write_weights
from tests.ui.support import array, assert_well, change_json, figures, labels, open_page, widget, words

VIEWS = ("Formation", "Heat-maps", "Attention at work", "Composition", "Ablation")
MODEL_VIEWS = ("Attention at work", "Ablation")
FIGURES = {
    "Formation": "formation",
    "Heat-maps": "heads",
    "Attention at work": "pattern",
    "Composition": "composition-",
    "Ablation": "ablation",
}


def heads(view: str = "Formation", **query: str) -> AppTest:
    return open_page("heads", view=view, **query)


def shown(app: AppTest, view: str) -> bool:
    return any(key.startswith(FIGURES[view]) for key in figures(app))


def chosen(app: AppTest) -> list[str]:
    """Ids of the runs on the left and on the right."""
    return [str(box.value) for box in app.selectbox if box.key in ("left", "right")]


def test_the_views_are_those_of_the_page(runs: Path) -> None:
    write_run(runs, steps=40)
    assert tuple(widget(heads(), "view").options) == VIEWS


@pytest.mark.parametrize(
    ("written", "left", "right"), [([(1, 0), (2, 0)], 0, 1), ([(2, 0), (1, 0)], 1, 0), ([(1, 0), (1, 1)], 1, 0)]
)
def test_the_newest_pair_that_differs_in_n_alone_is_shown(
    runs: Path, written: list[tuple[int, int]], left: int, right: int
) -> None:
    paths = [
        write_run(runs, steps=20, n_future=n_future, seed=seed, created=float(created))
        for created, (n_future, seed) in enumerate(written)
    ]
    assert chosen(heads()) == [paths[left].name, paths[right].name]


def test_every_run_with_something_to_show_is_offered_on_both_sides(runs: Path) -> None:
    paths = write_many(runs, steps=100)
    shutil.rmtree(paths[0] / "probes")
    shutil.rmtree(paths[1] / "probes")
    write_weights(paths[1], (100,))
    app = heads()
    for side in ("left", "right"):
        offered = "\n".join(widget(app, side).options)
        assert [path.name in offered for path in paths] == [False, *[True] * 5]
    assert "n = 2, layers, seed 1 (finished, step 100): " in offered


def test_one_run_stands_alone(runs: Path) -> None:
    path = write_run(runs, steps=40)
    app = heads()
    assert chosen(app) == [path.name]
    assert "Train a second model of this task" in words(app)


@pytest.mark.parametrize("view", VIEWS)
def test_two_runs_in_every_view(runs: Path, view: str) -> None:
    for n_future in (1, 2):
        write_weights(write_run(runs, n_future=n_future, steps=40), (0, 40))
    app = heads(view)
    assert shown(app, view) and not app.info


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("preset", ["stories-cpu", "polynomial-cpu", "bytes-cpu"])
def test_one_run_of_every_task_in_every_view(runs: Path, preset: str, view: str) -> None:
    write_weights(write_run(runs, preset, n_future=2, steps=20), (20,))
    app = heads(view)
    assert shown(app, view) and not app.info


def no_weights(path: Path) -> None: ...


def no_probes(path: Path) -> None:
    shutil.rmtree(path / "probes")


def only_weights(path: Path) -> None:
    shutil.rmtree(path / "probes")
    write_weights(path, (40,))


def only_random_repeats(path: Path) -> None:
    for probe in ("task_attention", "composition", "behaviour"):
        probe_file(path, probe).unlink()
    write_weights(path, (40,))


def no_composition(path: Path) -> None:
    probe_file(path, "composition").unlink()


def another_version(path: Path) -> None:
    for probe in ("attention", "task_attention", "composition", "behaviour"):
        probe_file(path, probe).write_text('{"step": 0, "tokens": 0}\n')


def broken_weights(path: Path) -> None:
    write_weights(path, (40,))
    (path / "checkpoints" / "40" / WEIGHTS).write_bytes(b"cut short")


def gone_weights(path: Path) -> None:
    write_weights(path, (40,))
    (path / "checkpoints" / "40" / WEIGHTS).unlink()


def another_shape(path: Path) -> None:
    write_weights(path, (40,))
    config = json.loads((path / "config.json").read_text())
    change_json(path / "config.json", model=config["model"] | {"d_model": 32})
    settle(path)


def unknown_task(path: Path) -> None:
    write_weights(path, (40,))
    config = json.loads((path / "config.json").read_text())
    change_json(path / "config.json", task=config["task"] | {"name": "sorting"})
    settle(path)


MEASURE = "--probe task_attention composition behaviour --step all"
NO_WEIGHTS = "These runs have no stored weights, which this view needs"
CANNOT = "This model cannot be opened:"
STATES: dict[Callable[[Path], None], dict[str, tuple[str, bool]]] = {
    no_weights: {"Formation": ("", True), "Heat-maps": ("", True), "Attention at work": (NO_WEIGHTS, False),
                 "Composition": ("", True), "Ablation": (NO_WEIGHTS, False)},
    only_weights: {"Formation": (MEASURE, False), "Heat-maps": (MEASURE, False), "Attention at work": ("", True),
                   "Composition": ("", True), "Ablation": ("", True)},
    only_random_repeats: {"Formation": (MEASURE, True), "Heat-maps": ("", True), "Attention at work": ("", True),
                          "Composition": ("", True), "Ablation": ("", True)},
    no_composition: {"Formation": ("", True), "Composition": ("has no stored composition. It has no stored weights", False)},
    another_version: dict.fromkeys(VIEWS[:2], ("Another version may have written it", False))
    | {"Composition": ("Another version may have written it", False), "Ablation": (NO_WEIGHTS, False)},
    broken_weights: {"Formation": ("", True), "Attention at work": (CANNOT, False), "Ablation": (CANNOT, False)},
    gone_weights: dict.fromkeys(MODEL_VIEWS, ("The weights of this step are gone; choose another step.", False)),
    another_shape: dict.fromkeys(MODEL_VIEWS, (CANNOT, False)),
    unknown_task: dict.fromkeys(MODEL_VIEWS, ("there is no task 'sorting'", False)) | {"Formation": ("", True)},
}  # fmt: skip
"""For each state of a run, and each view that it concerns: the sentence on the page, and whether the figure is there."""


@pytest.mark.parametrize(
    ("state", "view"),
    [(state, view) for state, views in STATES.items() for view in views],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_view_says_what_is_missing_and_shows_what_is_there(
    runs: Path, state: Callable[[Path], None], view: str
) -> None:
    state(write_run(runs, steps=40, n_future=2))
    app = heads(view)
    sentence, drawn = STATES[state][view]
    assert sentence in "\n".join(item.value for item in app.info)
    assert shown(app, view) is drawn
    assert bool(app.info) is bool(sentence)


def test_runs_with_nothing_to_show_say_why(runs: Path) -> None:
    no_probes(write_run(runs, steps=20))
    app = heads()
    assert "None of these runs has stored attention scores yet." in words(app)
    assert labels(app, "page_link") == ["Train"]


@pytest.mark.parametrize("view", VIEWS)
def test_one_of_two_runs_may_lack_something(runs: Path, view: str) -> None:
    no_probes(write_run(runs, steps=40))
    write_weights(write_run(runs, steps=40, n_future=2), (40,))
    only_weights(write_run(runs, steps=40, n_future=1, seed=1))
    app = heads(view)
    assert len(chosen(app)) == 2 and shown(app, view)


def test_one_visit_goes_through_all_views(runs: Path) -> None:
    for n_future in (1, 2):
        write_weights(write_run(runs, n_future=n_future, steps=40), (0, 40))
    app = heads()
    for view in (*VIEWS[1:], *VIEWS):
        widget(app, "view").set_value(view)
        app.run()
        assert_well(app)
        assert shown(app, view)
        assert len([key for key in figures(app) if key.startswith(tuple(FIGURES.values()))]) <= 2


@pytest.mark.parametrize("view", ["Nonsense", ""])
def test_an_address_with_a_view_that_is_not_there_does_no_harm(runs: Path, view: str) -> None:
    write_run(runs, steps=40)
    assert shown(heads(view), "Formation")


def test_the_task_can_be_chosen(runs: Path) -> None:
    induction = write_run(runs, steps=40, created=1.0)
    stories = write_run(runs, "stories-cpu", steps=40, created=2.0)
    app = heads()
    assert chosen(app) == [stories.name]
    widget(app, "task").set_value("induction")
    assert chosen(app.run()) == [induction.name]
    assert chosen(heads(task="Induction")) == [induction.name]


def test_choices_that_another_run_lacks_do_no_harm(runs: Path) -> None:
    """A score of 8 ahead was chosen, and the runs of the next task know 4."""
    write_run(runs, "stories-cpu", n_future=8, control="trunk", steps=40, created=2.0)
    write_run(runs, steps=40, created=1.0)
    app = heads()
    widget(app, "formation-score").set_value("ahead_8")
    app.run()
    widget(app, "task").set_value("induction")
    app.run()
    assert_well(app)
    assert shown(app, "Formation")


def test_torch_is_loaded_only_by_views_that_need_a_model(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(runs, steps=40, n_future=2)
    imported: list[str] = []
    find = builtins.__import__

    def watch(name: str, *args, **options):
        caller = (args[0] if args else None) or {}
        if name.partition(".")[0] == "torch" and str(caller.get("__name__", "")).startswith(("playground", "tasks")):
            imported.append(name)
        return find(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", watch)
    for view in ("Formation", "Heat-maps", "Composition"):
        assert shown(heads(view), view)
    assert not imported


def test_numbers_of_both_runs_are_their_own(runs: Path) -> None:
    paths = [write_run(runs, steps=100, seed=seed) for seed in range(3)]
    app = heads("Heat-maps")
    widget(app, "left").set_value(paths[1].name)
    widget(app, "right").set_value(paths[2].name)
    app.run()
    assert_well(app)
    drawn = [array(trace["z"]) for trace in figures(app)["heads"]["data"] if trace["type"] == "heatmap"]
    for index, path in ((0, paths[1]), (2, paths[2])):
        scores = Run(path).history("task_attention", AttentionScores).results[-1]
        np.testing.assert_allclose(drawn[index], scores.prefix_matching)
