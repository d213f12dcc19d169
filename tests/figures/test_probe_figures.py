"""Every probe has a figure for a real result, of one run and of two with different n; and what the figures say."""

import functools
from typing import Any

import numpy as np
import pytest

from playground.figures.probe_charts import knockout_figure, linear_figure
from playground.figures.probe_maps import attention_figure
from playground.figures.rows import columns_of, rows_along_figure, rows_figure
from playground.figures.table_charts import Drawn, bars_figure, lines_figure
from playground.probes import linear
from playground.probes.catalogue import all_probes, find_probe
from playground.probes.registry import make_probes
from playground.results import Head, History, Knockout, LinearProbes, Result
from tasks import make_task
from tests.cases import small_model

TASK = make_task("induction", d_vocab=8, n_ctx=10, min_distance=3, max_distance=4, test_rows=12)


@functools.cache
def results(name: str) -> dict[str, Result]:
    """A real result of a model with n = 1 and of one with n = 2."""
    models = {f"n = {n}": small_model(n_layers=3, n_future=n) for n in (1, 2)}
    return {title: make_probes([name], TASK, model.n_future)[name](model) for title, model in models.items()}


@pytest.fixture(autouse=True)
def few_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "COUNTED", 1 << 10)


@pytest.mark.parametrize("name", all_probes())
def test_every_probe_has_a_figure_of_one_run_and_of_two(name: str) -> None:
    found, figure = results(name), find_probe(name).figure
    for shown in (dict(list(found.items())[:1]), found):
        for drawn in (rows_figure(shown), *([figure(shown, "paper")] if figure else [])):
            assert drawn.data and drawn.layout.height > 100
            assert any(_numbers(trace) for trace in drawn.data)
            drawn.to_json()


@pytest.mark.parametrize("name", all_probes())
def test_every_probe_has_a_figure_along_training(name: str) -> None:
    along = {
        title: History(steps=(0, 10), tokens=(0, 640), results=(result, result))
        for title, result in results(name).items()
    }
    value = columns_of(results(name)["n = 2"].rows()).values[0]
    own = find_probe(name).figure_along
    figure = own(along, value, "screen") if own else rows_along_figure(along, value)
    assert any(trace.x is not None and len(trace.x) and max(trace.x) == 640 for trace in figure.data)


def _numbers(trace: Any) -> bool:
    values = trace.z if trace.type == "heatmap" else trace.x if trace.type == "bar" else trace.y
    return values is not None and len(values) > 0


# --- the form follows from the columns ---------------------------------------------------------------------------------


class Rows(Result):
    """A result that is its rows."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        object.__setattr__(self, "_rows", list(rows))

    def rows(self) -> list[dict[str, Any]]:
        return self._rows


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([{"head": "blocks.0.0", "score": 0.5}, {"head": "blocks.1.1", "score": 0.25}], "heatmap"),
        ([{"part": "a", "score": 0.5}, {"part": "b", "score": 0.25}], "bar"),
        ([{"part": "a", "count": 5}, {"part": "b", "count": 2}], "bar"),
        ([{"offset": 1, "loss": 0.5}, {"offset": 2, "loss": 0.25}], "scatter"),
        ([{"from": "a", "to": "b", "score": 0.5}, {"from": "a", "to": "c", "score": 0.25}, {"from": "d", "to": "c", "score": 1.0}], "heatmap"),
        ([{"offset": 1, "loss": 0.5}], "scatter"),
    ],
    ids=str,
)  # fmt: skip
def test_the_form_follows_from_the_columns(rows: list[dict[str, Any]], kind: str) -> None:
    figure = rows_figure({"run": Rows(*rows)})
    assert figure.data[0].type == kind


def test_heads_lie_at_their_layer_and_other_rows_are_told_in_the_title() -> None:
    rows = [{"head": f"blocks.{layer}.{head}", "score": layer + head / 10} for layer in (0, 1) for head in (0, 1, 2)]
    figure = rows_figure({"run": Rows(*rows, {"head": "ideal head", "score": 9.0})})
    assert np.array(figure.data[0].z).tolist() == [[0.0, 0.1, 0.2], [1.0, 1.1, 1.2]]
    assert figure.layout.annotations[0].text == "run, ideal head 9.00"


def test_reference_columns_lie_beside_their_value_and_spreads_are_whiskers() -> None:
    found = columns_of(
        [
            {
                "path": "a",
                "top-1 copying": 0.5,
                "spread over rows": 0.1,
                "top-1 null 99%": 0.2,
                "eigenvalue": 0.4,
                "chance": 0.3,
            }
        ]
    )
    assert found.values == ("top-1 copying", "eigenvalue")
    assert found.beside == {"top-1 copying": ("top-1 null 99%", "chance"), "eigenvalue": ("chance",)}
    assert found.spread == {"top-1 copying": "spread over rows"}


def test_the_largest_lines_are_kept_along_a_training() -> None:
    results = [Rows(*({"part": f"p{i}", "score": step * i / 10} for i in range(20))) for step in (1, 2)]
    figure = rows_along_figure({"run": History(steps=(1, 2), tokens=(10, 20), results=tuple(results))}, "score")
    assert [trace.name for trace in figure.data] == [f"p{i}" for i in range(12, 20)]


def test_hostile_names_are_shown_as_they_are() -> None:
    rows = Rows({"<b>x</b>": "<i>part</i>", "$y$": 0.5})
    text = str(rows_figure({"<b>run</b>": rows}).to_json())
    assert (
        "<b>run" not in text
        and "<i>part" not in text
        and "&lt;i&gt;part" in text.replace("\\u0026", "&").replace("\\u003c", "<")
    )


# --- single figures ----------------------------------------------------------------------------------------------------


def test_numbers_stand_where_a_head_exceeds_its_null_band() -> None:
    scores = results("attention")["n = 1"]
    figure = attention_figure({"run": scores})
    letters = [trace for trace in figure.data if trace.type == "scatter"]
    assert len(letters[0].text) == int((scores.prefix_matching > scores.null_prefix_matching).sum())


def test_the_worst_draw_is_marked_on_the_bar_of_its_run() -> None:
    heads = (Head("blocks.0", 0),)
    found = Knockout(
        induction=heads, previous_token=heads, others=heads, accuracy=0.9, without_induction=0.1,
        without_induction_spread=0.05, without_previous=0.4, without_others=np.array([0.8, 0.6]), n_control=1,
    )  # fmt: skip
    bar, tick = knockout_figure({"run": found}).data
    assert bar.x == pytest.approx((0.9, 0.1, 0.4, 0.7)) and tick.x[-1] == 0.6 and tick.orientation == "h"


def test_layers_stand_in_the_order_of_the_model_whichever_run_is_first() -> None:
    def read(sites: tuple[str, ...]) -> LinearProbes:
        values = np.full((len(sites), 1), 0.5)
        return LinearProbes(
            sites=sites, targets=("token +1",), accuracy=values, shuffled=values, baseline=np.array([0.1])
        )

    two, one = (
        read(("embed", "blocks.0", "future_heads.0", "future_heads.1")),
        read(("embed", "blocks.0", "blocks.1", "future_heads.0")),
    )
    axis = linear_figure({"n = 2": two, "n = 1": one}).layout.xaxis
    assert axis.categoryarray == ("embed", "T0", "T1", "F1", "F2")


def test_colours_are_runs_in_bars_and_lines() -> None:
    tables = {title: [{"part": "a", "x": 1, "score": 0.5}] for title in ("n = 1", "n = 2")}
    drawn = Drawn(values=["score"])
    bars, lines = bars_figure(tables, "part", drawn), lines_figure(tables, "x", drawn)
    assert [trace.marker.color for trace in bars.data] == [trace.line.color for trace in lines.data]
    assert len({trace.marker.color for trace in bars.data}) == 2
