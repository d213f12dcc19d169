"""From stored runs to curves: every offset, every score, the strongest head, gaps where nothing was measured."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from playground.analysis.curves import loss_curves, score_curve, strongest_head_curve, throughput_curve
from playground.analysis.groups import Group
from playground.results import AttentionHistory
from playground.runs.store import load_run
from tests.fake_runs import write_run

GROUP = Group(label="n = 2, layers, lr 0.1", n_future=2, control="layers", variant=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(write_run(tmp_path_factory.mktemp("runs"), n_future=2, seed=5, steps=100))


@pytest.mark.parametrize(("kind", "prefix"), [("eval", "test_loss_"), ("train", "loss_")])
def test_a_loss_curve_for_each_offset(run, kind, prefix):
    curves = loss_curves(run.record, run.metrics, GROUP, kind=kind)
    rows = run.metrics[run.metrics.kind == kind]
    assert [curve.panel for curve in curves] == ["offset 1 (next token)", "offset 2"]
    for offset, curve in enumerate(curves, start=1):
        assert curve.values.tolist() == rows[f"{prefix}{offset}"].tolist()
        assert curve.steps.tolist() == rows.step.tolist()
        assert curve.tokens.tolist() == rows.tokens.tolist()


def test_a_curve_says_whose_it_is(run):
    (curve, _) = loss_curves(run.record, run.metrics, GROUP)
    assert (curve.run, curve.label, curve.variant, curve.control) == (run.id, GROUP.label, 1, "layers")
    assert (curve.n_future, curve.seed, curve.in_mean) == (2, 5, True)


@pytest.mark.parametrize(
    ("state", "ended"),
    [("finished", ""), ("running", ""), ("stopped", "stopped"), ("failed", "failed"), ("interrupted", "interrupted")],
)
def test_a_curve_says_whether_its_run_ended_early(tmp_path, state, ended):
    run = load_run(write_run(tmp_path, state=state, steps=40))
    curves = [*loss_curves(run.record, run.metrics, GROUP), throughput_curve(run.record, run.metrics, GROUP)]
    assert [curve.ended for curve in curves] == [ended] * 2


def test_throughput_is_tokens_over_seconds_between_two_rows(run):
    rows = pd.DataFrame(
        {
            "kind": ["eval", "train", "eval", "train", "train", "train"],
            "step": [0, 10, 10, 20, 30, 40],
            "tokens": [0, 100, 100, 200, 300, 400],
            "seconds": [0.0, 2.0, 2.0, 2.5, 2.5, 4.5],
        }
    )
    curve = throughput_curve(run.record, rows, GROUP)
    assert curve.steps.tolist() == [10, 20, 30, 40] and curve.tokens.tolist() == [100, 200, 300, 400]
    np.testing.assert_array_equal(curve.values, [50.0, 200.0, np.nan, 50.0])


@pytest.mark.parametrize("rows", [0, 1])
def test_without_a_row_of_training_there_is_no_throughput(run, rows):
    assert throughput_curve(run.record, run.metrics[run.metrics.kind == "eval"][:rows], GROUP) is None


def test_losses_in_another_unit(run):
    nats, bits = (loss_curves(run.record, run.metrics, GROUP, scale=scale)[0] for scale in (1.0, 1 / np.log(2)))
    np.testing.assert_allclose(bits.values, nats.values / np.log(2))


def test_a_score(run):
    curve = score_curve(run.record, run.metrics, GROUP, "repeat_accuracy")
    rows = run.metrics[run.metrics.kind == "eval"]
    assert curve.values.tolist() == rows.repeat_accuracy.tolist()
    assert curve.panel == ""


def test_arrays_and_tables_give_the_same_curves(run):
    arrays, table = run.read_metrics().columns, run.metrics
    for make in (loss_curves, lambda *parts: [score_curve(*parts, "repeat_accuracy"), throughput_curve(*parts)]):
        for one, other in zip(make(run.record, arrays, GROUP), make(run.record, table, GROUP), strict=True):
            for name in ("steps", "tokens", "values"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_score_that_was_not_measured_has_no_curve(run):
    assert score_curve(run.record, run.metrics, GROUP, "exact_match") is None
    assert score_curve(run.record, run.metrics.assign(repeat_accuracy=None), GROUP, "repeat_accuracy") is None
    assert score_curve(run.record, pd.DataFrame(columns=["kind", "step", "tokens"]), GROUP, "repeat_accuracy") is None


def test_an_offset_that_was_never_finite_is_left_out(run):
    record = dataclasses.replace(run.record, n_future=3)
    metrics = run.metrics.assign(test_loss_2=np.nan)
    assert [curve.panel for curve in loss_curves(record, metrics, GROUP)] == ["offset 1 (next token)"]


def test_a_gap_stays_a_gap(run):
    metrics = run.metrics.astype({"repeat_accuracy": object})
    where = metrics.index[metrics.kind == "eval"][1]
    metrics.loc[where, "repeat_accuracy"] = None
    curve = score_curve(run.record, metrics, GROUP, "repeat_accuracy")
    assert np.isnan(curve.values).tolist() == [False, True, *[False] * (len(curve.values) - 2)]


def test_the_strongest_head_is_one_that_the_next_token_depends_on(run):
    """A stronger one in the future head of offset 2 helps offset 1 nothing, and 2-ahead is another score."""
    history = run.attention
    layers = history.results[1].layers
    prefix = np.array([[0.1, 0.3], [np.nan, 0.7], [0.9, 0.9]])[-len(layers) :]
    ahead = np.stack([prefix, np.full_like(prefix, 0.95)])
    table = dataclasses.replace(history.results[1], ahead=ahead)
    history = dataclasses.replace(history, results=(history.results[0], table, *history.results[2:]))
    curve = strongest_head_curve(run.record, history, GROUP)
    assert layers[-1] == "future_heads.1" and curve.values[1] == 0.7
    used = [number for number, layer in enumerate(layers) if layer != "future_heads.1"]
    assert curve.values[-1] == np.nanmax(run.attention.results[-1].prefix_matching[used])
    assert curve.steps.tolist() == list(history.steps)
    assert curve.tokens.tolist() == list(history.tokens)


def test_without_evaluations_there_is_no_strongest_head(run):
    assert strongest_head_curve(run.record, AttentionHistory(steps=(), tokens=(), results=()), GROUP) is None
