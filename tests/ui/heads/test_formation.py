"""The view of formation: each control, and what stands in the figure and in the table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from playground.analysis.formation import formation
from playground.results import AttentionScores, score_title
from playground.runs.store import Run
from tests.fake_runs import write_run
from tests.ui.support import Downloads, annotations, array, assert_well, figures, open_page, widget


@pytest.fixture
def pair(runs: Path) -> list[Path]:
    return [write_run(runs, n_future=n_future) for n_future in (1, 2)]


def view(**values: Any) -> AppTest:
    app = open_page("heads", view="Formation")
    for key, value in values.items():
        widget(app, key.replace("_", "-")).set_value(value)
    app.run()
    assert_well(app)
    return app


def curves(app: AppTest) -> dict[str, list[np.ndarray]]:
    """Values of each head, a list of panels."""
    found: dict[str, list[np.ndarray]] = {}
    for trace in figures(app)["formation"]["data"]:
        if trace.get("name"):
            found.setdefault(trace["name"], []).append(array(trace["y"]))
    return found


def history(path: Path, probe: str = "task_attention"):
    return Run(path).history(probe, AttentionScores)


@pytest.mark.parametrize("score", ["prefix_matching", "previous_token", "duplicate_token", "ahead_2", "back_3"])
def test_all_heads_on_the_chosen_score(pair: list[Path], score: str) -> None:
    drawn = curves(view(formation_score=score))
    for panel, path in enumerate(pair):
        results = history(path).results
        for index, head in enumerate(results[0].heads):
            expected = [result.score(score).ravel()[index] for result in results]
            panels = drawn[head.title]
            np.testing.assert_allclose(panels[panel if len(panels) == 2 else 0], expected)


def test_the_scores_offered_are_those_of_both_runs_by_their_titles(pair: list[Path]) -> None:
    names = history(pair[0]).results[0].names
    assert widget(view(), "formation-score").options == [score_title(name) for name in names]


def test_the_rows_can_be_chosen(pair: list[Path]) -> None:
    drawn = curves(view(head_rows="attention"))
    expected = [result.prefix_matching[0, 0] for result in history(pair[0], "attention").results]
    np.testing.assert_allclose(drawn["trunk 0, head 0"][0], expected)


@pytest.mark.parametrize(("axis", "kind"), [("linear", None), ("logarithmic", "log")])
def test_the_axis_can_be_chosen(pair: list[Path], axis: str, kind: str | None) -> None:
    assert figures(view(head_axis=axis))["formation"]["layout"]["xaxis"].get("type") == kind


def test_the_events_are_those_of_the_runs(pair: list[Path]) -> None:
    app = view()
    (marks, other) = [
        trace for trace in figures(app)["formation"]["data"] if trace.get("marker", {}).get("symbol") == "diamond"
    ]
    for drawn, path in ((marks, pair[0]), (other, pair[1])):
        times = [event.half for event in formation(Run(path)).main if event.half is not None]
        np.testing.assert_array_equal(array(drawn["x"]), times)
    table = app.dataframe[0].value
    assert table["event"].tolist()[:4] == ["previous token", "K-composition", "induction", "accuracy"]
    assert table["of"].tolist()[:3] == ["T0.1", "T0.1→F1.2", "F1.2"]
    assert table["run"].unique().tolist() == ["n = 1, seed 0", "n = 2, layers, seed 0"]


def test_what_was_not_reached_is_told(runs: Path) -> None:
    write_run(runs, state="stopped", done=0.2)
    app = view()
    assert any("not reached in" in text for text in app.dataframe[0].value["half of final"])


def test_both_runs_are_titled(pair: list[Path]) -> None:
    assert "<b>n = 1, seed 0</b>" in annotations(figures(view())["formation"])
    assert "<b>n = 2, layers, seed 0</b>" in annotations(figures(view())["formation"])


def test_the_figure_can_be_saved_and_drawn_for_a_document(pair: list[Path], downloads: Downloads) -> None:
    app = view(paper=True)
    assert downloads.names == {"formation.html"}
    assert "previous token" in downloads["formation.html"]
    assert app.get("plotly_chart")[0].proto.theme != "streamlit"
