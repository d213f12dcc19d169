"""Knockout names the heads of a known circuit, finds that they do the work, and that random others do not."""

import math

import numpy as np
import pytest

from playground.config import ClampConfig
from playground.model.clamp import apply_clamp
from playground.probes.ablation import ablate
from playground.probes.knockout import DRAWS, knockout
from playground.results import Head, Knockout
from tasks.base import seeded_generator
from tasks.registry import make_task
from tests.cases import MODEL_OPTIONS, make_batch, random_tokens, small_model
from tests.handmade import back_head, induction_head, induction_model
from tests.probes.no_trace import leaves_no_trace


def _repeats(rows: int = 32):
    return make_task("induction", d_vocab=32, n_ctx=64, min_distance=8, max_distance=24, test_rows=rows).test_batch(
        rows
    )


@pytest.mark.parametrize("n_future", [1, 2])
def test_it_names_exactly_the_heads_of_the_circuit_and_shows_that_they_do_the_work(n_future):
    model, batch = induction_model(n_future), _repeats()
    found = knockout(model, batch)
    assert found.induction == (induction_head(),) and found.previous_token == (back_head(),)
    assert found.accuracy == 1 and found.n_control == 1
    assert found.without_induction < 0.25 and found.without_previous < 0.25
    assert found.drop > 0.75 and found.without_induction_spread < 0.05
    assert (found.without_others == 1).all() and found.control_drop == 0
    assert 3 <= len(found.without_others) <= min(DRAWS, len(found.others))  # every one of them another head
    alone = ablate(model, batch, [str(induction_head()), str(back_head())])
    assert found.without_induction == pytest.approx(alone.accuracy[0, :, 0].mean())
    assert found.without_previous == pytest.approx(alone.accuracy[1, :, 0].mean())


@pytest.mark.parametrize("n_future", [1, 2])
def test_controls_are_drawn_from_heads_that_offset_1_depends_on(n_future):
    found = knockout(induction_model(n_future), _repeats(16))
    named = {*found.induction, *found.previous_token}
    expected = {Head(layer, index) for layer in ("blocks.0", "future_heads.0") for index in range(3 + n_future)} - named
    assert set(found.others) == expected


def test_a_model_without_induction_heads_has_nothing_to_take_out():
    task = make_task("induction", d_vocab=11, n_ctx=12, min_distance=3, max_distance=6, test_rows=16)
    found = knockout(small_model(), task.test_batch(16))
    assert found.induction == () and found.n_control == 0 and len(found.without_others) == 0
    assert found.without_induction == found.accuracy and found.drop == 0 and math.isnan(found.control_drop)
    rows = found.rows()
    assert rows[0]["heads"] == "none" and rows[2]["ablated"] == "0 random other heads"
    again = Knockout.from_dict(found.to_dict())
    assert again.without_others.shape == (0,) and again.induction == ()


@pytest.mark.parametrize(
    ("forced", "n_induction", "n_control", "most_draws"),
    [
        (("all",), 6, 0, 0),
        (("blocks.1", "future_heads.0"), 4, 2, 1),
        (("future_heads.0.1",), 1, 1, 5),
    ],
)
def test_there_are_never_more_controls_than_others(forced, n_induction, n_control, most_draws):
    """Heads whose patterns are held are induction heads by their score, whatever they do."""
    task = make_task("induction", d_vocab=11, n_ctx=12, min_distance=3, max_distance=6, test_rows=16)
    model = apply_clamp(small_model(n_layers=3), ClampConfig(force_induction=forced))
    found = knockout(model, task.test_batch(16))
    assert (len(found.induction), found.n_control) == (n_induction, n_control)
    assert len(found.others) + len(found.previous_token) == 6 - n_induction
    assert most_draws / 2 <= len(found.without_others) <= most_draws


def test_the_generator_draws_the_controls():
    model, batch = small_model(n_layers=5), _small_repeats()
    model = apply_clamp(model, ClampConfig(force_induction=("blocks.0.0",)))
    first, same, other = (knockout(model, batch, seeded_generator(seed)).without_others for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def _small_repeats():
    return make_task("induction", d_vocab=11, n_ctx=12, min_distance=3, max_distance=6, test_rows=16).test_batch(16)


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=lambda options: "-".join(options.values()))
def test_no_trace_is_left(options):
    model = small_model(n_future=2, **options).train()
    with leaves_no_trace(model):
        found = knockout(model, make_batch(random_tokens(rows=4, d_vocab=4)))
    assert len(found.rows()) == 3
