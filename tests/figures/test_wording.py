"""Titles on narrow pages."""

import pytest

from playground.figures.wording import WIDTH, wrapped


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("n = 1", ["n = 1"]),
        ("n = 2, layers, seed 0", ["n = 2, layers, seed 0"]),
        ("n = 2, layers, stories-cpu, seed 10", ["n = 2, layers, stories-", "cpu, seed 10"]),
        ("induction-cpu-n2-layers-s0-95a43a08", ["induction-cpu-n2-layers-", "s0-95a43a08"]),
    ],
)
def test_titles_break_where_they_may(text, lines):
    assert wrapped(text).split("<br>") == lines


def test_no_line_is_too_long():
    for text in ("word " * 30, "a-" * 40, "x" * 100):
        assert all(len(line) <= WIDTH for line in wrapped(text).split("<br>"))
