"""Decoded text with its player: the data, the page that stands alone, and its script."""

import json
import re
import shutil
import subprocess

import pytest

from playground.figures.decoding_script import CSS, SCRIPT
from playground.figures.decoding_text import (
    LONGEST,
    WrittenText,
    decoding_data,
    decoding_html,
    draft_states,
    telling_forward,
)
from playground.figures.head_colors import offset_color
from playground.results import DecodedRow, DecodingStep, Draft

STRINGS = {1: "a", 2: "b", 3: "c", 4: " ", 5: "\n", 6: "w" * 40, 7: "<b>"}


def drafts(*parts: tuple[int, int, int, bool]) -> tuple[Draft, ...]:
    """From (token, offset, parent, accepted)."""
    return tuple(Draft(token=t, offset=k, parent=parent, accepted=accepted) for t, k, parent, accepted in parts)


PREFILL = DecodingStep(drafts=(), emitted=(1,))
REFUSED = DecodingStep(drafts=drafts((2, 2, -1, False), (3, 3, 0, False)), emitted=(4,))
HALF = DecodingStep(drafts=drafts((2, 2, -1, True), (3, 3, 0, False)), emitted=(2, 1))
WHOLE = DecodingStep(drafts=drafts((2, 2, -1, True), (3, 3, 0, True)), emitted=(2, 3, 5))


def text(*steps: DecodingStep, wanted: int = 100, prompt: tuple[int, ...] = (3, 1), **changes) -> WrittenText:
    emitted = [token for step in steps for token in step.emitted]
    offsets = [k for step in steps for k in (*(draft.offset for draft in step.drafts if draft.accepted), 1)]
    row = DecodedRow(
        prompt=prompt, tokens=tuple(emitted[:wanted]), offsets=tuple(offsets[:wanted]), steps=steps, ended="length"
    )
    return WrittenText(**({"title": "n = 3", "row": row, "speculative": 3, "strings": STRINGS} | changes))


def shown(*texts: WrittenText) -> dict:
    data = decoding_data(texts)
    assert json.loads(json.dumps(data)) == data, "plain values"
    return data


@pytest.mark.parametrize(
    ("step", "states"),
    [
        (PREFILL, []),
        (REFUSED, ["refused", "unreached"]),
        (HALF, ["accepted", "refused"]),
        (WHOLE, ["accepted", "accepted"]),
        (
            DecodingStep(
                drafts=drafts((2, 2, -1, False), (3, 2, -1, True), (1, 3, 0, False), (2, 3, 1, False)), emitted=(3, 4)
            ),
            ["refused", "accepted", "unreached", "refused"],
        ),
    ],
)
def test_what_became_of_each_draft(step, states):
    assert draft_states(step) == states


@pytest.mark.parametrize(
    ("steps", "forward"),
    [
        ((PREFILL, REFUSED, WHOLE, HALF), 3),
        ((PREFILL, REFUSED, WHOLE), 2),
        ((PREFILL, REFUSED), 1),
        ((PREFILL,), 0),
    ],
)
def test_the_forward_shown_first_explains_the_most(steps, forward):
    plain = text(PREFILL, PREFILL, PREFILL, speculative=1)
    assert telling_forward([plain, text(*steps)]) == forward
    assert shown(plain, text(*steps))["start"] == forward
    assert telling_forward([plain]) == 0


def test_each_token_knows_its_offset_and_its_forward():
    (found,) = shown(text(PREFILL, WHOLE, HALF))["texts"]
    assert [(token["offset"], token["forward"]) for token in found["tokens"]] == [
        (1, 0),
        (2, 1),
        (3, 1),
        (1, 1),
        (2, 2),
        (1, 2),
    ]
    assert [token["text"] for token in found["tokens"]] == ["a", "b", "c", "⏎\n", "b", "a"]
    assert found["prompt"] == ["c", "a"]


def test_each_forward_says_what_it_was_fed_and_what_offset_1_added():
    (found,) = shown(text(PREFILL, WHOLE, HALF, REFUSED))["texts"]
    assert [(step["fed"], step["own"], step["kept"]) for step in found["steps"]] == [
        ("a", "a", 1),
        ("a", "⏎", 3),
        ("⏎", "a", 2),
        ("a", "␣", 1),
    ]
    assert found["steps"][2]["drafts"] == [
        {"text": "b", "offset": 2, "parent": -1, "state": "accepted"},
        {"text": "c", "offset": 3, "parent": 0, "state": "refused"},
    ]


@pytest.mark.parametrize(("wanted", "kept"), [(4, 3), (3, 2), (2, 1)])
def test_tokens_beyond_those_wanted_are_told(wanted, kept):
    (found,) = shown(text(PREFILL, WHOLE, wanted=wanted))["texts"]
    assert len(found["tokens"]) == wanted
    assert [step["kept"] for step in found["steps"]] == [1, kept]


def test_a_long_token_is_cut_in_its_box_and_whole_in_the_text():
    (found,) = shown(text(DecodingStep(drafts=(), emitted=(6,))))["texts"]
    assert found["tokens"][0]["text"] == STRINGS[6]
    assert found["steps"][0]["own"] == "w" * (LONGEST - 1) + "…"


def test_every_offset_has_the_colour_that_it_has_everywhere():
    data = shown(text(PREFILL, speculative=1), text(PREFILL, WHOLE))
    assert data["colors"] == [offset_color(offset) for offset in (1, 2, 3)]
    assert [found["drafts"] for found in data["texts"]] == [False, True]
    assert shown(text(PREFILL, speculative=1))["colors"] == [offset_color(1)]


def test_a_page_of_its_own_needs_no_network():
    page = decoding_html(shown(text(PREFILL, WHOLE)), "bytes-cpu, step 300")
    assert page.startswith("<!doctype html>") and "<title>bytes-cpu, step 300</title>" in page
    assert CSS in page and SCRIPT in page
    assert not re.findall(r"https?:|src=|href=|@import|url\(", page)


def test_no_token_or_title_can_become_markup():
    strings = STRINGS | {1: "</script><b>"}
    page = decoding_html(shown(text(PREFILL, strings=strings)), "a < b & c")
    assert page.count("</script>") == 1 and "<b>" not in page
    assert "a &lt; b &amp; c" in page
    inside = re.search(r'getElementById\("decoding"\), (.*)\);', page)
    assert inside is not None
    assert json.loads(inside[1])["texts"][0]["tokens"][0]["text"] == "</script><b>"


def test_tokens_are_set_as_text():
    """Never as HTML: tokens may be typed by anybody."""
    assert "innerHTML" not in SCRIPT and "textContent" in SCRIPT


def test_refused_drafts_are_struck_out_and_every_draft_carries_its_offset_as_a_number():
    assert "text-decoration: line-through" in CSS
    assert "content: attr(data-offset)" in CSS and 'make("sub", "", String(offset))' in SCRIPT


def test_the_style_takes_its_colours_from_the_page():
    assert "var(--st-text-color" in CSS and "CanvasText" in CSS
    assert not re.findall(r"[: ]#[0-9a-f]{6}\b(?!\))", CSS), "a fixed colour would not read in both themes"


@pytest.mark.skipif(shutil.which("node") is None, reason="node checks the script's grammar")
def test_the_script_is_javascript(tmp_path):
    path = tmp_path / "script.mjs"
    path.write_text(SCRIPT)
    subprocess.run(["node", "--check", str(path)], check=True, capture_output=True)
