"""Texts that can be shown: what is hidden in them becomes an escape, everything else stays."""

import pytest

from playground.text import visible, writable


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("n = 2, 50% ± 1 → 日本 é", "n = 2, 50% ± 1 → 日本 é"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x00\x1b[31m\x7f\x9b", r"\x00\x1b[31m\x7f\x9b"),
        ("\u2028\u2029\u202e\u2066\ufeff", r"\u2028\u2029\u202e\u2066\ufeff"),
        ("a\ud800b\udcff", r"a\ud800b\udcff"),
        ("[red]<b>$x$\\", "[red]<b>$x$\\"),
        ("", ""),
    ],
)
def test_visible(text: str, seen: str) -> None:
    assert visible(text) == seen
    seen.encode()


@pytest.mark.parametrize(("most", "seen"), [(None, "abcdef"), (6, "abcdef"), (5, "abc.."), (1, ".."), (0, "..")])
def test_a_long_text_is_cut(most: int | None, seen: str) -> None:
    assert visible("abcdef", most) == seen


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "é → \\ud800"),
        ("latin-1", "é \\u2192 \\ud800"),
        ("ascii", "\\xe9 \\u2192 \\ud800"),
        (None, "é → \\ud800"),
    ],
)
def test_writable(encoding: str | None, written: str) -> None:
    assert writable("é → \ud800", encoding) == written
