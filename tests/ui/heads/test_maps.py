"""The view of heat-maps: each control, the animation, the difference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from playground.results import AttentionScores
from playground.runs.probes import probe_file
from playground.runs.store import Run
from tests.fake_runs import write_many, write_run
from tests.ui.support import (
    Downloads,
    annotations,
    array,
    assert_well,
    cut_last_line,
    figures,
    open_page,
    widget,
    words,
)


def view(app: AppTest | None = None, **values: Any) -> AppTest:
    app = app or open_page("heads", view="Heat-maps")
    for key, value in values.items():
        widget(app, key.replace("_", "-")).set_value(value)
    app.run()
    assert_well(app)
    return app


def maps(app: AppTest) -> list[np.ndarray]:
    """The heat-maps as drawn first: at the last step."""
    return [array(trace["z"]) for trace in figures(app)["heads"]["data"] if trace["type"] == "heatmap"]


def panels(app: AppTest) -> list[str]:
    """First two lines of the titles."""
    return [
        " | ".join(text.split("<br>")[:2]) for text in annotations(figures(app)["heads"]).splitlines() if "<b>" in text
    ]


def history(path: Path, probe: str = "task_attention"):
    return Run(path).history(probe, AttentionScores)


@pytest.fixture
def pair(runs: Path) -> list[Path]:
    return [write_run(runs, n_future=n_future, steps=100) for n_future in (1, 2)]


def test_two_runs_and_their_difference(pair: list[Path]) -> None:
    app = view()
    assert panels(app) == [
        "<b>n = 1, seed 0</b> | induction",
        "<b>n = 1, seed 0</b> | previous token",
        "<b>n = 2, layers, seed 0</b> | induction",
        "<b>n = 2, layers, seed 0</b> | previous token",
        "<b>difference: lower − upper</b> | induction",
        "<b>difference: lower − upper</b> | previous token",
    ]
    layout = figures(app)["heads"]["layout"]
    assert layout["yaxis"]["ticktext"] == ["T0", "T1", "F1", "F2"]
    first, _, second, _, difference, _ = maps(app)
    assert np.isnan(first[3]).all() and np.isnan(second[1]).all()
    assert np.isfinite(difference[[0, 2]]).all() and np.isnan(difference[[1, 3]]).all()
    assert "trunk layers are matched from the bottom, future heads by their offset" in words(app)


def test_the_difference_can_pair_heads_by_number(pair: list[Path]) -> None:
    *_, difference, _ = maps(view(pairing="number"))
    one, two = (history(path).results[-1] for path in pair)
    np.testing.assert_allclose(difference[0], two.prefix_matching[0] - one.prefix_matching[0])
    np.testing.assert_allclose(difference[2], two.prefix_matching[1] - one.prefix_matching[2])


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        (["back_2"], ["back_2"]),
        (["previous_token", "prefix_matching"], ["previous_token", "prefix_matching"]),
        ([], ["prefix_matching", "previous_token"]),
    ],
)
@pytest.mark.parametrize("rows", ["task_attention", "attention"])
def test_scores_and_rows_can_be_chosen(pair: list[Path], scores: list[str], shown: list[str], rows: str) -> None:
    app = view(scores=scores, head_rows=rows)
    drawn = maps(app)[: len(shown)]
    for values, name in zip(drawn, shown, strict=True):
        np.testing.assert_allclose(values[:3], history(pair[0], rows).results[-1].score(name))


def test_the_same_run_on_both_sides_is_drawn_once(runs: Path) -> None:
    paths = write_many(runs, steps=40)
    app = view(left=paths[0].name, right=paths[0].name)
    assert len(maps(app)) == 2 and "difference" not in annotations(figures(app)["heads"])


def test_two_runs_of_one_name_are_told_apart(runs: Path) -> None:
    """The same model trained twice: the second goes by its id."""
    paths = [write_run(runs, steps=20, created=float(number)) for number in range(2)]
    text = annotations(figures(view())["heads"]).replace("<br>", "")
    assert any(path.name in text for path in paths) and "n = 1, seed 0" in text


def test_training_can_be_replayed(runs: Path) -> None:
    found = history(write_run(runs, steps=100))
    figure = figures(view())["heads"]
    assert [frame["name"] for frame in figure["frames"]] == [str(step) for step in found.steps]
    for frame, scores in zip(figure["frames"], found.results, strict=True):
        np.testing.assert_allclose(array(frame["data"][0]["z"]), scores.prefix_matching)
    assert [button["label"] for button in figure["layout"]["updatemenus"][0]["buttons"]] == ["Play", "Pause"]
    assert len(figure["layout"]["sliders"][0]["steps"]) == len(found.steps)


def test_a_history_cut_short_is_shown_as_far_as_it_goes(runs: Path) -> None:
    path = write_run(runs, steps=100)
    whole = [str(step) for step in history(path).steps]
    cut_last_line(probe_file(path, "task_attention"))
    assert [frame["name"] for frame in figures(view())["heads"]["frames"]] == whole[:-1]


def test_the_figure_is_made_anew_only_when_something_has_changed(runs: Path) -> None:
    path = write_run(runs, steps=100)
    app = view()
    kept = app.session_state["heads-figure"]
    assert view(app).session_state["heads-figure"] is kept
    assert view(app, scores=["back_2"]).session_state["heads-figure"] is not kept
    cut_last_line(probe_file(path, "task_attention"))
    frames = figures(view(app))["heads"]["frames"]
    assert len(frames) == len(history(path).steps)


def test_the_figure_can_be_saved(runs: Path, downloads: Downloads) -> None:
    write_run(runs, steps=40)
    view()
    assert downloads.names == {"heads.html"}
    assert "previous token" in downloads["heads.html"] and "Play" in downloads["heads.html"]


def test_a_figure_for_a_document(runs: Path) -> None:
    write_run(runs, steps=40)
    assert view(paper=True).get("plotly_chart")[0].proto.theme != "streamlit"
