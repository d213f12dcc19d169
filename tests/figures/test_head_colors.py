"""Colours of heads: the trunk in one, each future head in its own."""

import pytest

from playground.figures.head_colors import head_color, offset_color
from playground.figures.style import COLORS
from playground.results import Head


def test_the_trunk_is_one_colour_and_future_heads_have_their_own():
    trunk = {head_color(Head(f"blocks.{layer}", head)) for layer in range(3) for head in range(2)}
    future = [head_color(Head(f"future_heads.{number}", 0)) for number in range(4)]
    assert trunk == {COLORS[1]}
    assert len({*future, *trunk}) == 5


@pytest.mark.parametrize("number", [0, 1, 7, 20])
def test_any_number_of_future_heads_has_a_colour_that_is_not_the_trunks(number):
    color = head_color(Head(f"future_heads.{number}", 0))
    assert color in COLORS.values() and color != COLORS[1]
    assert offset_color(number + 1) == color
