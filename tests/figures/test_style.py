"""Colours by n, dashes by control, the two templates and the tool bar."""

import itertools

import plotly.graph_objects as go
import pytest

from playground.figures.style import (
    COLORS,
    DASHES,
    GREY,
    apply_style,
    chart_config,
    color_of,
    dash_of,
    see_through,
)
from tests.figures.shown import LOOKS, STYLES


def channels(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def test_every_usual_n_has_a_colour_of_its_own_and_none_is_the_grey_of_reference_lines():
    colors = [color_of(n_future) for n_future in (1, 2, 3, 4, 8, 16, 32)]
    assert colors == list(COLORS.values())
    assert len({*colors, GREY}) == len(colors) + 1


@pytest.mark.parametrize("n_future", [5, 6, 7, 12, 100])
def test_another_n_takes_one_of_the_colours_and_always_the_same(n_future):
    assert color_of(n_future) == color_of(n_future)
    assert color_of(n_future) in COLORS.values()


def test_variants_go_towards_grey_step_by_step():
    for n_future in COLORS:
        shades = [channels(color_of(n_future, variant)) for variant in range(3)]
        distances = [sum(abs(part - 128) for part in shade) for shade in shades]
        assert distances[0] > distances[1] > distances[2] > 0
    assert color_of(1, 5) == color_of(1, 2)


def test_shades_of_different_n_stay_apart():
    shades = [color_of(n_future, variant) for n_future in COLORS for variant in range(3)]
    assert len(set(shades)) == len(shades)


@pytest.mark.parametrize(
    ("control", "dash"), [("layers", "solid"), ("trunk", "dash"), ("flops", "dot"), ("other", "dashdot")]
)
def test_dash_by_control(control, dash):
    assert dash_of(control) == dash


def test_no_two_controls_share_a_dash():
    assert all(one != other for one, other in itertools.combinations(DASHES.values(), 2))


def test_see_through():
    assert see_through("#2b83c4", 0.18) == "rgba(43, 131, 196, 0.18)"


@pytest.mark.parametrize("style", STYLES)
def test_a_style_is_applied_to_the_figure_itself(style):
    figure = go.Figure()
    assert apply_style(figure, style) is figure
    layout = figure.layout.template.layout
    assert (layout.font.color, layout.paper_bgcolor) == LOOKS[style]
    assert layout.plot_bgcolor == layout.paper_bgcolor


def test_a_style_changed_afterwards_replaces_the_first():
    figure = apply_style(apply_style(go.Figure(), "screen"), "paper")
    assert figure.layout.template.layout.paper_bgcolor == "white"


@pytest.mark.parametrize(("image_format", "scale"), [("png", 3), ("svg", 1)])
def test_the_camera_saves_under_the_given_name(image_format, scale):
    options = chart_config("loss", image_format)["toImageButtonOptions"]
    assert options == {"format": image_format, "filename": "loss", "scale": scale}
    assert chart_config("loss")["toImageButtonOptions"]["format"] == "png"
