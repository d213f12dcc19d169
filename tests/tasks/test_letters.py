"""Letters: with ASCII text the patterns for every script find what those for A-Z find; with other text, words and capitals."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.letters import ASCII, every_script, letters_of


@given(st.text(st.characters(max_codepoint=127), max_size=200))
def test_ascii_text_is_read_alike(text: str) -> None:
    for name in ("word", "mid_sentence", "capital"):
        assert getattr(every_script(), name).findall(text) == getattr(ASCII, name).findall(text)
    for name in ("first_part", "second_part"):
        wide, narrow = (getattr(letters, name).fullmatch(text) for letters in (every_script(), ASCII))
        assert (wide is None) == (narrow is None)


@given(st.text("aBc ,.é1_\n", max_size=60))
def test_ascii_patterns_are_those_that_stored_runs_were_trained_with(text: str) -> None:
    assert ASCII.word.findall(text) == re.findall(r"[A-Za-z]+", text)
    assert ASCII.mid_sentence.findall(text) == re.findall(r"(?<=[a-z,] )[A-Z][a-z]+\b", text)


@pytest.mark.parametrize(
    ("text", "words", "names"),
    [
        ("då såg Zoë på José, Élodie.", ["då", "såg", "Zoë", "på", "José", "Élodie"], ["Zoë", "José", "Élodie"]),
        ("e\u0301 Zoe\u0308!", ["e\u0301", "Zoe\u0308"], ["Zoe\u0308"]),
        ("и Фёдор, Ия и НИИ", ["и", "Фёдор", "Ия", "и", "НИИ"], ["Фёдор", "Ия"]),
        ("ο Νίκος", ["ο", "Νίκος"], ["Νίκος"]),
        ("saw \u01c5aba x² 12", ["saw", "\u01c5aba", "x"], ["\u01c5aba"]),  # a capital of category Lt
        ("一只 小狗", ["一只", "小狗"], []),
        ("एक कुत्ता", ["एक", "कुत्ता"], []),
    ],
)
def test_words_and_names_of_other_scripts(text: str, words: list[str], names: list[str]) -> None:
    letters = letters_of(text)
    assert letters is every_script()
    assert letters.word.findall(text) == words
    assert letters.mid_sentence.findall(text) == names
