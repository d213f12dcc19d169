"""The view of composition: stored along training, or computed from weights."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from playground.probes.composition import composition
from playground.results import Composition
from playground.runs.probes import probe_file
from playground.runs.store import Run
from tests.fake_runs import write_run, write_weights
from tests.ui.support import Downloads, annotations, assert_well, figures, open_page, widget


@pytest.fixture
def pair(runs: Path) -> list[Path]:
    return [write_run(runs, n_future=n_future, steps=200) for n_future in (1, 2)]


def view(app: AppTest | None = None, **values: Any) -> AppTest:
    app = app or open_page("heads", view="Composition")
    for key, value in values.items():
        widget(app, key.replace("_", "-")).set_value(value)
        app.run()
    assert_well(app)
    return app


def graph(app: AppTest, path: Path) -> dict[str, Any]:
    return figures(app)[f"composition-{path.name}"]


def edges(app: AppTest, path: Path) -> list[dict[str, Any]]:
    return [trace for trace in graph(app, path)["data"] if trace["mode"] == "lines"]


def step_key(*paths: Path) -> str:
    return "composition-step-" + "-".join(path.name for path in paths)


def test_both_runs_at_the_last_step_with_the_edge_that_formed(pair: list[Path]) -> None:
    app = view()
    for path, title in zip(pair, ("n = 1, seed 0", "n = 2, layers, seed 0"), strict=True):
        stored = Run(path).history("composition", Composition).results[-1]
        assert len(edges(app, path)) == int((stored.k > stored.band("k")).sum()) >= 1
        assert graph(app, path)["layout"]["title"]["text"] == f"<b>{title}, step 200</b>"


def test_the_step_can_be_chosen_and_widths_stay_comparable(pair: list[Path]) -> None:
    app = view()
    steps = Run(pair[0]).history("composition", Composition).steps
    assert widget(app, step_key(*pair)).options == [str(step) for step in steps]
    last = max(edge["line"]["width"] for edge in edges(app, pair[0]))
    app = view(app, **{step_key(*pair): steps[1]})
    assert f"step {steps[1]}" in graph(app, pair[0])["layout"]["title"]["text"]
    assert max((edge["line"]["width"] for edge in edges(app, pair[0])), default=0) < last


@pytest.mark.parametrize(("kind", "title"), [("q", "Q-composition"), ("k", "K-composition"), ("v", "V-composition")])
def test_the_kind_can_be_chosen(pair: list[Path], kind: str, title: str) -> None:
    app = view(composition_kind=kind)
    stored = Run(pair[0]).history("composition", Composition).results[-1]
    assert len(edges(app, pair[0])) == int((getattr(stored, kind) > stored.band(kind)).sum())
    assert f"{title} minus random" in annotations(graph(app, pair[0]))


def test_the_colour_of_the_heads_can_be_chosen(pair: list[Path]) -> None:
    app = view(composition_score="previous_token")
    assert graph(app, pair[0])["layout"]["coloraxis"]["colorbar"]["title"]["text"] == "previous<br>token<br>(1 ideal)"


def test_without_stored_composition_it_is_computed_from_weights(runs: Path) -> None:
    path = write_run(runs, n_future=2, steps=40)
    probe_file(path, "composition").unlink()
    write_weights(path, (0, 40))
    app = view()
    assert widget(app, step_key(path)).options == ["0", "40"]
    found = composition(Run(path).model(40))
    assert len(edges(app, path)) == int((found.k > found.band("k")).sum())
    assert "step 0" in graph(view(app, **{step_key(path): 0}), path)["layout"]["title"]["text"]


def test_runs_measured_at_different_steps_show_their_last_one_so_far(pair: list[Path]) -> None:
    probe_file(pair[1], "composition").unlink()
    write_weights(pair[1], (0, 150))
    app = view()
    assert "step 200" in graph(app, pair[0])["layout"]["title"]["text"]
    assert "step 150" in graph(app, pair[1])["layout"]["title"]["text"]


def test_one_of_two_without_anything_is_told_and_the_other_drawn(pair: list[Path]) -> None:
    probe_file(pair[0], "composition").unlink()
    app = view()
    assert f"{pair[0].name} has no stored composition." in app.info[0].value
    assert edges(app, pair[1])


def test_every_graph_can_be_saved(pair: list[Path], downloads: Downloads) -> None:
    view(paper=True)
    assert downloads.names == {f"composition-{path.name}.html" for path in pair}
    assert "K-composition" in downloads[f"composition-{pair[0].name}.html"]
