"""Letters on colours: every shade of every scale is readable."""

import numpy as np
import plotly.colors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground.figures.contrast import DIVERGING, contrast, letters_on, luminance
from playground.figures.style import SCALE

ENOUGH = 4.5


def shade(scale, share: float) -> float:
    stops = scale if isinstance(scale, str) else [list(stop) for stop in scale]
    (color,) = plotly.colors.sample_colorscale(stops, [share], colortype="tuple")
    return luminance(*(255 * part for part in color))


@pytest.mark.parametrize("scale", [SCALE, DIVERGING], ids=["scores", "differences"])
def test_letters_contrast_with_every_shade(scale):
    for share in np.linspace(0, 1, 60):
        (color,) = letters_on(np.array([share]), scale)
        assert contrast(shade(scale, share), 0.0 if color == "#000000" else 1.0) >= ENOUGH


def test_known_luminances():
    assert luminance(255, 255, 255) == pytest.approx(1)
    assert luminance(0, 0, 0) == 0
    assert luminance(119, 119, 119) == pytest.approx(0.184, abs=0.001)
    assert contrast(1, 0) == contrast(0, 1) == pytest.approx(21)


@given(st.floats(-3, 3) | st.just(float("nan")))
def test_values_outside_take_the_end_of_the_scale(value):
    inside = np.clip(np.nan_to_num(value), 0, 1)
    assert letters_on(np.array([value]))[0] == letters_on(np.array([inside]))[0]


def test_the_shape_is_kept_and_the_range_shifts():
    assert letters_on(np.zeros((3, 2))).shape == (3, 2)
    assert letters_on(np.array([-1.0, 0.0, 1.0]), DIVERGING, -1.0).tolist()[1] == "#000000"
