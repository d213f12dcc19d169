"""Loss along training: a panel for each offset, the unit along the axis."""

import math

import pytest

from playground.figures.losses import NATS_PER_BIT, loss_figure, offset_name
from tests.figures.shown import STYLES, curve, dressed, texts


def losses(n_future: int) -> list:
    return [
        curve([4.0, 3.0 + offset / 10], n_future=n_future, panel=offset_name(offset))
        for offset in range(1, n_future + 1)
    ]


@pytest.mark.parametrize(("offset", "name"), [(1, "offset 1 (next token)"), (2, "offset 2"), (16, "offset 16")])
def test_offset_names(offset, name):
    assert offset_name(offset) == name


def test_a_bit_is_log_two_nats():
    assert pytest.approx(1) == math.exp(NATS_PER_BIT) / 2


@pytest.mark.parametrize("style", STYLES)
def test_each_offset_has_a_panel_with_its_curve(style):
    figure = dressed(loss_figure([*losses(2), *losses(3), *losses(1)], style=style), style)
    assert texts(figure) == ["offset 1 (next token)", "offset 2", "offset 3"]
    drawn = {(trace.legendgroup, trace.xaxis): list(trace.y) for trace in figure.data}
    assert drawn == {
        ("n = 1", "x"): [4.0, 3.1],
        ("n = 2", "x"): [4.0, 3.1],
        ("n = 2", "x2"): [4.0, 3.2],
        ("n = 3", "x"): [4.0, 3.1],
        ("n = 3", "x2"): [4.0, 3.2],
        ("n = 3", "x3"): [4.0, 3.3],
    }


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({}, "test loss (nats per token)"),
        ({"quantity": "training loss"}, "training loss (nats per token)"),
        ({"unit": "bits per byte"}, "test loss (bits per byte)"),
    ],
)
def test_the_axis_says_which_loss_and_in_what_unit(options, title):
    figure = loss_figure(losses(2), **options)
    assert figure.layout.yaxis.title.text == title
    assert title in figure.data[0].hovertemplate


def test_steps_instead_of_tokens():
    figure = loss_figure(losses(1), x="step", height=200)
    assert list(figure.data[0].x) == [0, 10]
    assert (figure.layout.xaxis.title.text, figure.layout.height) == ("training step", 200)
