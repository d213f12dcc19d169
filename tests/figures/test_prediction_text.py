"""Predictions on a row before and after an ablation."""

import re

import numpy as np

from playground.figures.prediction_text import BROKE, MENDED, OTHER, Predictions, predictions_html

TOKENS = np.array([7, 5, 7, 5, 9])
STRINGS = ["a", "b", "a", "b", "<c>"]
NAMES = {5: "b", 7: "a", 8: "&", 9: "<c>"}


def predictions(before, after, offset: int = 1, scored=(False, False, True, True, True)) -> Predictions:
    return Predictions(offset=offset, before=np.array(before), after=np.array(after), scored=np.array(scored))


def boxes(text: str) -> list[str]:
    return re.findall(r'<span class="pt-token.*?</span>', text)


def shown(*offsets: Predictions) -> str:
    return predictions_html(TOKENS, STRINGS, NAMES, offsets)


def test_each_kind_of_change_has_its_colour():
    text = shown(predictions([-1, 5, 8, 8, 5], [-1, 8, 7, 7, 5]))
    first, broke, mended, other, same = boxes(text)
    assert "pt-none" in first
    assert BROKE in broke and "<small>b → &amp;</small>" in broke
    assert MENDED in mended and "<small>&amp; → a</small>" in mended
    assert OTHER in other and "<small>&amp; → a</small>" in other
    assert "background" not in same and "<small>b</small>" in same


def test_an_unchanged_right_prediction_says_right():
    assert "<small>right</small>" in boxes(shown(predictions([-1, 5, 7, 5, 9], [-1, 5, 7, 5, 9])))[1]


def test_scored_tokens_are_underlined_and_counted():
    text = shown(predictions([-1, 5, 7, 5, 9], [-1, 5, 8, 5, 8]))
    assert ["pt-scored" in box for box in boxes(text)] == [False, False, True, True, True]
    assert "2 of 4 predictions changed; right on scored tokens 3 → 1 of 3" in text


def test_where_nothing_is_scored_it_says_so():
    text = shown(predictions([-1, 5, 7, 5, 9], [-1, 5, 7, 5, 9], scored=(False,) * 5))
    assert "0 of 4 predictions changed; no token here is scored" in text


def test_a_block_for_each_offset():
    text = shown(
        predictions([-1, 5, 7, 5, 9], [-1, 5, 7, 5, 9]), predictions([-1, -1, 7, 5, 9], [-1, -1, 5, 5, 9], offset=2)
    )
    assert "<b>Offset 1</b>: 0 of 4" in text and "<b>Offset 2</b>: 1 of 3" in text
    assert len(boxes(text)) == 10


def test_tokens_are_escaped():
    text = shown(predictions([-1, 5, 8, 8, 8], [-1, 5, 8, 8, 9]))
    assert "<c>" not in text and "&lt;c&gt;" in text
