"""The view of ablations: switches, buttons, what changes with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from playground.probes.ablation import SET, ablate, all_components
from playground.probes.rows import probe_batch
from playground.results import AttentionScores, Head
from playground.runs.probes import store_result
from playground.runs.store import Run
from playground.ui.heads import ablation as heads_ablation
from playground.ui.heads.ablation import named_heads, other_heads
from tests.fake_runs import write_run, write_weights
from tests.ui.support import Downloads, annotations, array, assert_well, figures, labels, open_page, widget, words


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models this small are slower on several threads, many times so beside other tests; parts alone wait for the button."""
    monkeypatch.setattr(heads_ablation, "AT_ONCE", 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def path(runs: Path) -> Path:
    """A run for n = 2 with a previous-token head, an induction head and a 2-ahead head, by its stored scores."""
    path = write_run(runs, n_future=2)
    write_weights(path, (0, 700))
    return path


def view(app: AppTest | None = None, **values: Any) -> AppTest:
    app = app or open_page("heads", view="Ablation")
    for key, value in values.items():
        widget(app, key.replace("__", "-")).set_value(value)
        app.run()
    assert_well(app)
    return app


def press(app: AppTest, name: str) -> AppTest:
    widget(app, f"ablate-{name}").click()
    app.run()
    assert_well(app)
    return app


def take_out(app: AppTest, path: Path, **layers: list[str]) -> AppTest:
    """`blocks_0=["blocks.0.1"]`"""
    for layer, parts in layers.items():
        kind, _, number = layer.rpartition("_")
        widget(app, f"ablate-{path.name}-{kind}.{number}").set_value(parts)
    app.run()
    assert_well(app)
    return app


def out(app: AppTest, path: Path) -> list[str]:
    """What is taken out."""
    prefix = f"ablate-{path.name}-"
    return [part for group in app.get("button_group") if str(group.key).startswith(prefix) for part in group.value]


def drawn(app: AppTest, symbol: str, axis: str = "x") -> list[np.ndarray]:
    return [
        array(trace["x"])
        for trace in figures(app)["ablation"]["data"]
        if trace.get("marker", {}).get("symbol") == symbol and trace.get("xaxis", "x") == axis
    ]


def effect(path: Path, *parts: str, method: str = "mean", step: int = 700):
    run = Run(path)
    return ablate(run.model(step), probe_batch(run.task, 64), [SET.join(parts)], method=method)


def test_at_first_nothing_is_taken_out(path: Path) -> None:
    app = view()
    assert out(app, path) == []
    assert "Nothing is ablated" in words(app)
    (before,), (after,) = drawn(app, "circle-open"), drawn(app, "circle")
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("method", ["mean", "resample", "zero"])
def test_what_is_switched_off_is_taken_out(path: Path, method: str) -> None:
    app = take_out(
        view(ablation__method=method), path, blocks_0=["blocks.0.1", "blocks.0.mlp"], future_heads_1=["future_heads.1"]
    )
    expected = effect(path, "blocks.0.1", "blocks.0.mlp", "future_heads.1", method=method)
    for axis, quantity in (("x", "accuracy"), ("x2", "loss")):
        (before,), (after,) = drawn(app, "circle-open", axis), drawn(app, "circle", axis)
        clean = getattr(expected, f"clean_{quantity}").mean(axis=0)
        np.testing.assert_allclose(before, clean, rtol=1e-4)
        np.testing.assert_allclose(after, clean + getattr(expected, f"{quantity}_change")[0], rtol=1e-4)


def test_every_layer_has_its_switches(path: Path) -> None:
    groups = {group.label: list(group.options) for group in view().get("button_group") if "ablate-" in str(group.key)}
    assert list(groups) == ["trunk 0", "future head 1", "future head 2"]
    assert groups["future head 2"] == ["F2.0", "F2.1", "F2.2", "F2.3", "MLP", "whole layer"]


@pytest.mark.parametrize(
    ("button", "heads"),
    [
        ("induction heads", ["future_heads.0.2"]),
        ("2-ahead heads", ["future_heads.1.0"]),
        ("previous-token heads", ["blocks.0.1"]),
        ("none", []),
    ],
)
def test_the_buttons_choose_heads_by_their_scores(path: Path, button: str, heads: list[str]) -> None:
    app = take_out(view(), path, blocks_0=["blocks.0.3"])
    app = press(app, button)
    assert out(app, path) == heads


def test_random_others_are_as_many_and_none_of_the_named(path: Path) -> None:
    app = press(view(), "random others")
    (chosen,) = out(app, path)
    assert chosen not in ("future_heads.0.2", "future_heads.1.0", "blocks.0.1") and not chosen.startswith(
        "future_heads.1"
    )
    assert out(press(press(app, "none"), "random others"), path) == [chosen]


def test_buttons_say_how_many_heads_there_are(path: Path) -> None:
    told = labels(view(), "button")
    for text in ("induction heads (1)", "2-ahead heads (1)", "previous-token heads (1)", "random others (1)", "none"):
        assert text in told


def test_without_such_heads_a_button_cannot_be_pressed(runs: Path) -> None:
    write_weights(write_run(runs, done=0.05, state="stopped"), (35,))
    app = view()
    assert widget(app, "ablate-induction heads").disabled and "induction heads (0)" in labels(app, "button")
    assert not widget(app, "ablate-none").disabled


def test_controls_are_as_many_random_others(path: Path) -> None:
    app = press(view(), "induction heads")
    assert "Ticks: up to 5 draws of as many random other heads" in words(app)
    (ticks,) = drawn(app, "line-ns-open")
    run = Run(path)
    scores = run.history("task_attention", AttentionScores).results[-1]
    others = [str(head) for head in other_heads(scores, 2, 1)]
    possible = ablate(run.model(700), probe_batch(run.task, 64), others).accuracy[:, :, 0].mean(axis=1)
    assert all(np.isclose(possible, tick).any() for tick in ticks)


def test_mlps_have_no_control(path: Path) -> None:
    app = take_out(view(), path, blocks_0=["blocks.0.mlp"])
    assert not drawn(app, "line-ns-open")
    assert "no control for this choice" in words(app)


def test_the_chance_of_the_task_stands_beside_the_accuracy(path: Path) -> None:
    assert "chance 0.05" in annotations(figures(view())["ablation"])


def test_predictions_of_the_row_before_and_after(path: Path) -> None:
    app = view()
    (text,) = [item.proto.body for item in app.get("html")]
    assert "0 of 63 predictions changed" in text and "<b>Offset 2</b>" in text
    app = take_out(app, path, blocks_0=["blocks.0"])
    (changed,) = [item.proto.body for item in app.get("html")]
    assert changed != text and "→" in changed


def test_own_tokens_are_predicted_too(path: Path) -> None:
    app = view(row__from="typed", **{"row-text-induction": "7 2 5 7 2"})
    (text,) = [item.proto.body for item in app.get("html")]
    assert "of 4 predictions changed; no token here is scored" in text
    app = view(app, **{"row-text-induction": "cat"})
    assert "Word 1, 'cat', is no token" in app.info[0].value
    assert "ablation" in figures(app)


def test_each_part_alone_is_measured_at_once_where_that_is_fast(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_ablation, "AT_ONCE", 1e9)
    app = view()
    run = Run(path)
    model = run.model(700)
    expected = ablate(model, probe_batch(run.task, 64), all_components(model))
    accuracy, loss = figures(app)["alone"]["data"]
    np.testing.assert_allclose(array(accuracy["x"]), expected.accuracy_change[:, 0], atol=1e-5)
    np.testing.assert_allclose(array(loss["x"]), expected.loss_change[:, 0], atol=1e-5)
    app = view(app, **{f"alone-offset-{path.name}": 2})
    np.testing.assert_allclose(array(figures(app)["alone"]["data"][1]["x"]), expected.loss_change[:, 1], atol=1e-5)


def test_each_part_alone_waits_for_a_button_where_it_is_slow(path: Path) -> None:
    app = view()
    assert "alone" not in figures(app)
    widget(app, f"measure-alone-{path.name}-700").click()
    app.run()
    assert_well(app)
    assert "alone" in figures(app) and not [text for text in labels(app, "button") if text.startswith("Measure")]


def test_stored_ablations_are_used(path: Path) -> None:
    stored = effect(path, "blocks.0.1")
    store_result(path, "ablation", stored, step=700, tokens=1)
    (accuracy, _) = figures(view())["alone"]["data"]
    np.testing.assert_allclose(array(accuracy["x"]), stored.accuracy_change[:, 0], atol=1e-4)


def test_figures_can_be_saved(path: Path, downloads: Downloads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads_ablation, "AT_ONCE", 1e9)
    view()
    assert {"ablation.html", "alone.html"} <= downloads.names
    assert "whole model" in downloads["ablation.html"]


def test_another_run_has_switches_of_its_own(path: Path, runs: Path) -> None:
    other = write_run(runs, n_future=1)
    write_weights(other, (700,))
    app = press(view(**{"model-run": path.name}), "previous-token heads")
    app = view(app, **{"model-run": other.name})
    assert out(app, other) == []
    assert out(view(app, **{"model-run": path.name}), path) == ["blocks.0.1"]


def scores() -> AttentionScores:
    """F1.0 is an induction and a previous-token head, T0.0 a previous-token head, F2.1 2-ahead, F2.0 an induction head."""
    shape = (3, 2)
    table = AttentionScores(
        layers=("blocks.0", "future_heads.0", "future_heads.1"),
        rows_from="task",
        back=np.full((4, *shape), 0.1),
        duplicate_token=np.full(shape, 0.1),
        ahead=np.full((4, *shape), 0.1),
        null_back=np.full((4, *shape), 0.2),
        null_duplicate_token=np.full(shape, 0.2),
        null_ahead=np.full((4, *shape), 0.2),
    )
    table.ahead[0, 1, 0] = table.ahead[0, 2, 0] = table.ahead[1, 2, 1] = 0.9
    table.back[0, 1, 0] = table.back[0, 0, 0] = 0.8
    return table


def test_heads_are_named_as_the_knockout_names_them() -> None:
    named = named_heads(scores(), 2)
    assert named == {
        "induction heads": (Head("future_heads.0", 0),),
        "2-ahead heads": (Head("future_heads.1", 1),),
        "previous-token heads": (Head("blocks.0", 0),),
    }
    assert other_heads(scores(), 2, 1) == [Head("blocks.0", 1), Head("future_heads.0", 1)]
    assert other_heads(scores(), 2, 2) == [Head("blocks.0", 1), Head("future_heads.1", 0)]
