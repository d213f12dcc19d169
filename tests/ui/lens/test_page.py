"""Lens: the runs, steps and rows it offers, what every layer says on them, and what stands there when it cannot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from playground.probes.lens import lens, lens_view
from playground.runs.checkpoint import WEIGHTS
from playground.runs.store import Run
from playground.ui.lens.data import ROWS
from tests.fake_runs import settle, write_run, write_weights
from tests.ui.support import (
    Downloads,
    annotations,
    array,
    assert_well,
    figures,
    labels,
    legend,
    open_page,
    widget,
    words,
)


@pytest.fixture
def pair(runs: Path) -> list[Path]:
    """A run for n = 1 and one for n = 2, each with weights at two steps."""
    paths = [write_run(runs, n_future=n_future, steps=40, created=float(n_future)) for n_future in (1, 2)]
    for path in paths:
        write_weights(path, (0, 40))
    return paths


def page(**query: str) -> AppTest:
    return open_page("lens", **query)


def choose(app: AppTest, **values: Any) -> AppTest:
    """Set controls, by their keys with `_` for `-`, and draw again."""
    for key, value in values.items():
        widget(app, key.replace("_", "-")).set_value(value)
        app.run()
        assert_well(app)
    return app


def maps(app: AppTest) -> list[np.ndarray]:
    return [array(trace["z"]).astype(float) for trace in figures(app)["lens"]["data"] if "hovertext" in trace]


def titles(app: AppTest) -> list[str]:
    """Titles of the panels, each on one line."""
    found = [text for text in annotations(figures(app)["lens"]).splitlines() if text.startswith("<b>")]
    return [text.replace("<b>", "").replace("</b><br>", "; ") for text in found]


def layers(app: AppTest) -> list[list[str]]:
    layout = figures(app)["lens"]["layout"]
    return [layout[axis]["ticktext"] for axis in ("yaxis", "yaxis2") if axis in layout]


def all_positions(app: AppTest) -> AppTest:
    sliders = [slider for slider in app.slider if str(slider.key).startswith("lens-window")]
    for slider in sliders:
        slider.set_range(0, int(slider.max))
    return app.run()


def test_two_runs_stand_one_above_the_other_on_the_same_tokens(pair: list[Path]) -> None:
    app = page()
    assert titles(app) == [
        "n = 1, seed 0, step 40; offset 1, read through future head 1",
        "n = 2, layers, seed 0, step 40; offset 1, read through future head 1",
    ]
    trunks = [Run(path).config.model.n_trunk_layers for path in pair]
    assert layers(app) == [["embed", *(f"trunk {layer}" for layer in range(depth))] for depth in trunks]
    layout = figures(app)["lens"]["layout"]
    assert layout["xaxis"]["ticktext"] == layout["xaxis3"]["ticktext"]
    assert layout["xaxis2"]["ticktext"] == layout["xaxis4"]["ticktext"]


@pytest.mark.parametrize("offset", [1, 2])
@pytest.mark.parametrize("way", ["through", "direct"])
def test_the_map_is_what_the_lens_computes(pair: list[Path], offset: int, way: str) -> None:
    app = all_positions(choose(page(), lens_offset=offset, lens_way=way, lens_row=3))
    run = Run(pair[1])
    view = lens_view(run.model(40), run.task.test_batch(4).tokens[3])
    expected = view.probability[:, offset - 1, :, 0]
    if way == "direct":
        expected = np.concatenate([view.direct_probability[:, :, 0], expected[-1:]])
    np.testing.assert_allclose(maps(app)[-1], expected, atol=1e-6)
    assert ("future head" in layers(app)[-1][-1]) == (way == "direct")


def test_at_an_offset_that_a_run_does_not_have_the_other_is_shown_alone(pair: list[Path]) -> None:
    app = choose(page(), lens_offset=2)
    assert "n = 1, seed 0, step 40 has future head 1 only, so it is not shown at offset 2" in words(app)
    assert titles(app) == ["n = 2, layers, seed 0, step 40; offset 2, read through future head 2"]
    assert "2 ahead:" in annotations(figures(app)["lens"])


def test_a_next_token_run_alone_has_one_offset(runs: Path) -> None:
    path = write_run(runs, steps=20)
    write_weights(path, (20,))
    app = page()
    assert list(widget(app, "lens-offset").options) == ["1"]
    assert "Train a second model of this task" in words(app)
    assert not app.select_slider
    assert titles(app) == ["n = 1, seed 0, step 20; offset 1, read through future head 1"]


def test_an_offset_that_the_next_runs_do_not_have_is_forgotten(pair: list[Path]) -> None:
    app = choose(page(), lens_offset=2)
    choose(app, lens_right=pair[0].name)
    assert widget(app, "lens-offset").value == 1
    assert len(maps(app)) == 1


def test_each_run_has_a_step_of_its_own_and_one_run_may_stand_at_two(pair: list[Path]) -> None:
    one, two = (path.name for path in pair)
    app = page()
    before = maps(app)
    widget(app, f"lens-step-left-{one}").set_value(0)
    app.run()
    assert titles(app)[0].startswith("n = 1, seed 0, step 0;") and titles(app)[1].startswith(
        "n = 2, layers, seed 0, step 40;"
    )
    np.testing.assert_array_equal(maps(app)[1], before[1])
    choose(app, lens_left=two)
    widget(app, f"lens-step-left-{two}").set_value(0)
    app.run()
    assert_well(app)
    assert [title.partition(";")[0] for title in titles(app)] == [
        "n = 2, layers, seed 0, step 0",
        "n = 2, layers, seed 0, step 40",
    ]


def test_the_same_run_at_the_same_step_is_drawn_once(pair: list[Path]) -> None:
    app = choose(page(), lens_left=pair[1].name)
    assert len(maps(app)) == 1


@pytest.mark.parametrize(
    ("color", "title"),
    [
        ("top", "probability of the likeliest token"),
        ("true", "probability of the token that comes"),
        ("right", "whether the likeliest token is the one that comes"),
    ],
)
def test_colours_can_be_chosen(pair: list[Path], color: str, title: str) -> None:
    app = choose(page(), lens_color=color)
    assert figures(app)["lens"]["layout"]["coloraxis"]["colorbar"]["title"]["text"] == title
    if color == "right":
        assert set(np.unique(maps(app)[0])) <= {0.0, 1.0}


def test_rows_are_those_of_the_test_set_with_marks_where_they_are_scored(pair: list[Path]) -> None:
    task = Run(pair[0]).task
    batch = task.test_batch(6)
    app = page()
    for row in (0, 5):
        app = all_positions(choose(app, lens_row=row))
        figure = figures(app)["lens"]
        assert [int(text) for text in figure["layout"]["xaxis"]["ticktext"]] == batch.tokens[row].tolist()
        marks = next(trace for trace in figure["data"] if trace.get("name") == "scored by the task")
        distance = int(batch.info["distance"][row])
        assert array(marks["x"]).tolist() == list(range(distance, task.n_ctx - 1))


def test_a_long_row_is_opened_where_scoring_begins(pair: list[Path]) -> None:
    app = page()
    (slider,) = app.slider
    distance = int(Run(pair[0]).task.test_batch(1).info["distance"][0])
    assert slider.value == (distance + 1 - 6, distance + 1 - 6 + 19)
    slider.set_range(3, 9)
    app.run()
    assert figures(app)["lens"]["layout"]["xaxis"]["range"] == [2.5, 9.5]
    choose(app, lens_way="direct", lens_color="true")
    assert figures(app)["lens"]["layout"]["xaxis"]["range"] == [2.5, 9.5], "other controls leave the window"


def test_own_tokens_can_be_typed(pair: list[Path]) -> None:
    app = choose(page(), lens_source="Own text")
    start = widget(app, "lens-text-induction").value
    assert start == Run(pair[0]).task.decode(Run(pair[0]).task.test_batch(1).tokens[0, :48].tolist())
    widget(app, "lens-text-induction").set_value("5 6 7 5 6")
    app.run()
    assert_well(app)
    layout = figures(app)["lens"]["layout"]
    assert layout["xaxis"]["ticktext"] == ["5", "6", "7", "5", "6"]
    assert layout["xaxis2"]["ticktext"] == ["6", "7", "5", "6", ""]
    marks = next(trace for trace in figures(app)["lens"]["data"] if trace.get("name") == "scored by the task")
    assert not marks["showlegend"]
    assert not app.slider


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5 6 cat", "This text cannot be read: word 3, 'cat', is no token of this task"),
        ("  ", "This text cannot be read: the text holds no token; write some, such as '0 1 2 3'"),
    ],
)
def test_what_cannot_be_typed_is_told(pair: list[Path], text: str, said: str) -> None:
    app = choose(page(), lens_source="Own text")
    widget(app, "lens-text-induction").set_value(text)
    app.run()
    assert_well(app)
    assert said in words(app)
    assert "lens" not in figures(app) and "lens-means" in figures(app)


def test_a_text_longer_than_the_context_is_cut(pair: list[Path]) -> None:
    n_ctx = Run(pair[0]).task.n_ctx
    app = choose(page(), lens_source="Own text")
    widget(app, "lens-text-induction").set_value(" ".join(["1", "2"] * n_ctx))
    app.run()
    assert f"takes {n_ctx} tokens at a time; the last {n_ctx} of the text are left out" in words(app)
    assert len(maps(app)) == 2


@pytest.mark.parametrize(
    ("preset", "text"),
    [("stories-cpu", "Borin, Mira."), ("polynomial-cpu", "| + 1 2 3"), ("bytes-cpu", "def f(x):\n\treturn <x>")],
)
def test_every_task(runs: Path, preset: str, text: str) -> None:
    for n_future in (1, 2):
        write_weights(write_run(runs, preset, n_future=n_future, steps=20), (20,))
    app = page()
    assert len(maps(app)) == 2 and "lens-means" in figures(app)
    choose(app, lens_source="Own text")
    widget(app, f"lens-text-{preset.removesuffix('-cpu')}").set_value(text)
    app.run()
    assert_well(app)
    task = Run(next(runs.iterdir())).task
    assert len(maps(app)[0][0]) == len(task.encode(text))


def test_tasks_configured_differently_read_rows_of_their_own(pair: list[Path]) -> None:
    config = json.loads((pair[1] / "config.json").read_text())
    config["task"]["test_seed"] = 5
    (pair[1] / "config.json").write_text(json.dumps(config))
    settle(pair[1])
    app = page()
    assert "The tasks of these two runs are configured differently, so each run reads a row of its own." in words(app)
    layout = figures(app)["lens"]["layout"]
    assert layout["xaxis"]["ticktext"] != layout["xaxis3"]["ticktext"]


def test_the_means_are_those_of_the_lens_over_test_rows(pair: list[Path]) -> None:
    app = page()
    figure = figures(app)["lens-means"]
    for path, title in zip(pair, ("n = 1, seed 0, step 40", "n = 2, layers, seed 0, step 40"), strict=True):
        run = Run(path)
        found = lens(run.model(40), run.task.test_batch(ROWS))
        through = [trace for trace in figure["data"] if trace.get("name") == f"{title}, through its future head"]
        drawn = [array(trace["y"]) for trace in through]
        for values, expected in zip(drawn, [*found.accuracy.T, *found.loss.T], strict=True):
            np.testing.assert_allclose(values, expected)
    text = words(app)
    assert "**n = 2, layers, seed 0, step 40**: the next token" in text and "the token 2 ahead" in text
    assert f"Means over {ROWS} test rows." in text
    assert {"chance, accuracy 0.05", "uniform guess, loss 4.16"} <= set(legend(figure))


def test_figures_can_be_saved(pair: list[Path], downloads: Downloads) -> None:
    page()
    assert downloads.names == {"lens.html", "lens-means.html"}
    assert "read through future head 1" in downloads["lens.html"]
    assert "through its future head" in downloads["lens-means.html"]


def test_figures_for_a_document(pair: list[Path]) -> None:
    app = choose(page(), paper=True)
    assert {chart.proto.theme for chart in app.get("plotly_chart")} == {""}


def test_choices_are_kept_on_the_way_to_another_page(pair: list[Path]) -> None:
    app = choose(page(), lens_offset=2, lens_way="direct", lens_color="right")
    app.switch_page("playground/ui/about/about.py").run()
    app.switch_page("playground/ui/lens/lens.py").run()
    assert_well(app)
    assert [widget(app, f"lens-{key}").value for key in ("offset", "way", "color")] == [2, "direct", "right"]


def test_the_task_can_be_chosen(pair: list[Path], runs: Path) -> None:
    write_weights(write_run(runs, "stories-cpu", steps=20, created=9.0), (20,))
    app = page()
    assert titles(app)[0].startswith("n = 1, seed 0, step 20")
    choose(app, task="induction")
    assert titles(app)[0].startswith("n = 1, seed 0, step 40") and len(maps(app)) == 2


def test_runs_without_weights_are_not_offered(pair: list[Path], runs: Path) -> None:
    without = write_run(runs, steps=20, seed=4)
    assert not any(without.name in option for option in widget(page(), "lens-left").options)


def test_no_weights_at_all(runs: Path) -> None:
    write_run(runs, steps=20)
    app = page()
    assert "None of these runs has stored weights, which this page needs, yet." in words(app)
    assert labels(app, "page_link") == ["Train"]


def test_a_model_that_cannot_be_opened_leaves_the_other(pair: list[Path]) -> None:
    (pair[0] / "checkpoints" / "40" / WEIGHTS).write_bytes(b"cut short")
    app = page()
    assert "This model cannot be opened:" in words(app)
    assert [title.partition(",")[0] for title in titles(app)] == ["n = 2"]


def test_weights_that_are_gone_are_told(pair: list[Path]) -> None:
    for path in pair:
        (path / "checkpoints" / "40" / WEIGHTS).unlink()
    app = page()
    assert "The weights of this step are gone; choose another step." in words(app)
    assert not figures(app)
    for side, path in zip(("left", "right"), pair, strict=True):
        widget(app, f"lens-step-{side}-{path.name}").set_value(0)
    app.run()
    assert_well(app)
    assert len(maps(app)) == 2


def test_a_configuration_that_is_gone_is_told(pair: list[Path]) -> None:
    (pair[1] / "config.json").unlink()
    app = page()
    assert "1 folder not readable" in words(app) and "config.json is missing" in words(app)
    assert len(maps(app)) == 1
