"""Decoded text while it grows: colours on a terminal, none elsewhere, whole characters, and nothing that harms a terminal."""

import dataclasses
import io
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.cli.streaming import GrowingText, Screen, say_outcome
from playground.figures.head_colors import offset_color
from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from playground.results import DecodingStep, Draft
from tasks import make_task
from tests.cases import small_model
from tests.running.test_decoding import speed_of

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Call it for stdout as a terminal with all colours; pytest puts its own stdout in place when a test begins."""
    for name, value in {"TERM": "xterm-256color", "COLORTERM": "truecolor"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def replace():
        monkeypatch.setattr(sys, "stdout", Terminal())
        return sys.stdout

    return replace


def test_drafts_have_the_colours_of_their_offsets_and_the_prompt_is_dim(terminal):
    shown_on = terminal()
    screen = Screen(lambda tokens: bytes(tokens).decode("utf-8", "replace"), list(b"ab"), 4, ())
    drafts = [
        Draft(token=ord("c"), offset=2, parent=-1, accepted=True),
        Draft(token=ord("d"), offset=3, parent=0, accepted=True),
    ]
    screen.step(0, DecodingStep(drafts=tuple(drafts), emitted=tuple(b"cd!")))
    screen.step(0, DecodingStep(drafts=tuple(drafts), emitted=tuple(b"cd!")))
    screen.end()
    red, green, blue = (int(offset_color(2)[i : i + 2], 16) for i in (1, 3, 5))
    shown = shown_on.getvalue()
    assert ESCAPE.sub("", shown) == "abcd!c\n"  # four tokens were wanted
    assert shown.startswith("\x1b[2mab\x1b[0m") and shown.count(f"\x1b[4;38;2;{red};{green};{blue}mc") == 2
    assert offset_color(2) != offset_color(3) and "\x1b[0m!\x1b[" in shown


def test_stop_tokens_end_what_is_shown(terminal):
    shown_on = terminal()
    screen = Screen(lambda tokens: bytes(tokens).decode(), list(b"a"), 9, (ord("."),))
    for _ in range(2):
        screen.step(
            0, DecodingStep(drafts=(Draft(token=ord("."), offset=2, parent=-1, accepted=True),), emitted=tuple(b".x"))
        )
    screen.end()
    assert ESCAPE.sub("", shown_on.getvalue()) == "a.\n"


def test_control_characters_do_nothing_to_the_terminal(terminal):
    shown_on = terminal()
    screen = Screen(lambda tokens: bytes(tokens).decode("utf-8", "replace"), list(b"a\x1b[2J\x07"), 9, ())
    screen.end()
    assert ESCAPE.sub("", shown_on.getvalue()) == "a\\x1b[2J\\x07\n"


def test_a_stream_that_knows_no_unicode_gets_escapes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    Screen(lambda tokens: "é", [1], 1, ()).end()
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xe9\n"


DECODE = lambda tokens: bytes(tokens).decode("utf-8", errors="replace")  # noqa: E731


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=12), st.text(max_size=6).map(str.encode)), cut=st.integers(0, 12))
def test_pieces_of_text_add_up_and_are_never_taken_back(data, cut):
    text = GrowingText(DECODE, list(data[:cut]))
    shown = text.shown
    for token in data[cut:]:
        shown += text.add(token)
        assert DECODE(data).startswith(shown)
    assert shown + text.finish() == DECODE(data)


@pytest.mark.parametrize("character", ["é", "€", "😀", "\ufffd"])
def test_a_character_of_several_bytes_comes_whole(character):
    text = GrowingText(DECODE, [ord("a")])
    pieces = [text.add(byte) for byte in character.encode()]
    assert "".join(pieces[:-1]) == "" and pieces[-1] + text.finish() == character


def test_bytes_that_are_no_text_come_out_with_a_delay():
    text = GrowingText(DECODE, [])
    assert [text.add(0xFF) for _ in range(5)] == ["", "", "", "\ufffd", "\ufffd"]


def test_sentences_of_stories_grow_as_they_are_written():
    task = make_task("stories")
    tokens = task.test_batch(1).tokens[0].tolist()
    text = GrowingText(task.decode, tokens[:5])
    assert text.shown + "".join(map(text.add, tokens[5:])) + text.finish() == task.decode(tokens)


def test_a_text_that_differs_is_said_loudly(capsys):
    decoding = generate(small_model(n_future=2), [[1]], DecodingConfig(speculative=2, max_new_tokens=5))
    say_outcome(decoding, dataclasses.replace(speed_of(), identical=False, gap=1e-6))
    said = capsys.readouterr().err
    assert "DIFFERENT TEXT from plain decoding, from a token whose logit was 1e-06 above" in said


def test_what_decoding_took_without_anything_to_compare_it_with(capsys):
    one = generate(small_model(n_future=2), [[1]], DecodingConfig(speculative=2, max_new_tokens=1))
    say_outcome(one, None)
    assert capsys.readouterr().err == "1 token, 0 forwards after the prompt's\n"
