"""A score along training: chance and ceiling at their values, the unit along the axis."""

import pytest

from playground.figures.scores import ROOM_FOR_UNIT, readable, score_figure, strongest_head_figure
from playground.results import ScoreInfo
from tests.figures.shown import STYLES, curve, dressed, levels, texts

ACCURACY = ScoreInfo(name="repeat_accuracy", chance=0.06, ceiling=1.0, unit="share of tokens", higher_is_better=True)
BITS = ScoreInfo(name="bits_per_byte", chance=8.0, ceiling=0.0, unit="bits per byte", higher_is_better=False)


def test_readable():
    assert readable("second_name_token_accuracy") == "second name token accuracy"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("info", "names"), [(ACCURACY, ["chance 0.06", "ceiling 1"]), (BITS, ["chance 8", "floor 0"])], ids=["up", "down"]
)
def test_chance_and_ceiling_are_drawn_at_their_values(info, names, style):
    figure = dressed(score_figure([curve([info.chance, 0.5])], [info], style=style), style)
    assert levels(figure) == [info.chance, info.ceiling]
    assert texts(figure) == names
    low, high = figure.layout.yaxis.range
    assert low < min(info.chance, info.ceiling) and max(info.chance, info.ceiling) < high


def test_the_axis_names_score_and_unit_where_there_is_room():
    curves = [curve([0.1, 0.5])]
    tall, short = score_figure(curves, [ACCURACY]), score_figure(curves, [ACCURACY], height=ROOM_FOR_UNIT - 1)
    assert tall.layout.yaxis.title.text == "repeat accuracy<br>(share of tokens)"
    assert short.layout.yaxis.title.text == "repeat accuracy"


def test_a_value_beyond_the_references_lies_inside_the_axis():
    low, high = score_figure([curve([9.5, 0.2, float("nan")])], [BITS]).layout.yaxis.range
    assert low < 0 and high > 9.5


def test_models_with_different_tasks_bring_each_their_chance_and_equal_ones_are_drawn_once():
    harder = ScoreInfo(name="repeat_accuracy", chance=0.02, ceiling=1.0, unit="share of tokens", higher_is_better=True)
    figure = score_figure([curve([0.1])], [ACCURACY, harder, ACCURACY])
    assert texts(figure) == ["chance 0.06", "chance 0.02", "ceiling 1"]


def test_without_infos_there_is_the_curve_alone():
    figure = dressed(score_figure([curve([0.1, 0.2])], []))
    assert len(figure.data) == 1 and not levels(figure) and figure.layout.yaxis.range is None


@pytest.mark.parametrize(("null", "names"), [(0.08, ["ideal head 1", "null band 0.08"]), (None, ["ideal head 1"])])
def test_the_strongest_head_stands_between_null_band_and_ideal(null, names):
    figure = dressed(strongest_head_figure([curve([0.03, 0.9])], null=null))
    assert texts(figure) == names
    assert levels(figure) == [1.0, 0.08][: len(names)]
    assert list(figure.layout.yaxis.range) == [-0.06, 1.06]
    assert figure.layout.yaxis.title.text == "largest prefix matching"
