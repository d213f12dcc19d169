"""Attention on tokens: the data, the page that stands alone, and its script."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from playground.figures.attention_script import CSS, SCRIPT
from playground.figures.attention_text import HeadOnRow, attention_data, attention_html

TOKENS = ["the", "cat", "sat", "the"]


def pattern() -> np.ndarray:
    weights = np.tril(np.arange(1, 17, dtype=np.float32).reshape(4, 4))
    return weights / weights.sum(axis=1, keepdims=True)


def head(**changes) -> HeadOnRow:
    values = {
        "name": "F1.2",
        "title": "future head 1, head 2",
        "note": "induction 0.93",
        "color": "#d9660a",
        "pattern": pattern(),
    }
    return HeadOnRow(**(values | changes))


def test_each_query_has_the_weights_of_itself_and_what_came_before():
    (shown,) = attention_data(TOKENS, [head()])["heads"]
    assert [len(row) for row in shown["weights"]] == [1, 2, 3, 4]
    for query, row in enumerate(shown["weights"]):
        np.testing.assert_allclose(row, pattern()[query, : query + 1], atol=5e-4)
    assert (shown["name"], shown["title"], shown["note"], shown["color"]) == (
        "F1.2",
        "future head 1, head 2",
        "induction 0.93",
        "#d9660a",
    )


def test_ideal_places_are_listed_by_query():
    targets = np.zeros((4, 4), dtype=bool)
    targets[3, 1] = True
    assert attention_data(TOKENS, [head()], targets=targets)["ideal"] == [[], [], [], [1]]
    assert attention_data(TOKENS, [head()])["ideal"] == [[], [], [], []]


@pytest.mark.parametrize(("start", "shown"), [(None, 3), (1, 1), (0, 0)])
def test_the_token_shown_first(start, shown):
    assert attention_data(TOKENS, [head()], start=start)["start"] == shown


def test_the_data_are_plain():
    data = attention_data(TOKENS, [head()], targets=np.eye(4, dtype=bool))
    assert json.loads(json.dumps(data)) == data


def test_a_page_of_its_own_needs_no_network():
    page = attention_html(attention_data(TOKENS, [head()]), "induction-cpu, step 700")
    assert page.startswith("<!doctype html>") and "<title>induction-cpu, step 700</title>" in page
    assert CSS in page and SCRIPT in page
    assert not re.findall(r"https?:|src=|href=|@import|url\(", page)


def test_no_token_or_title_can_become_markup():
    data = attention_data(["</script><b>", "x"], [head(pattern=np.eye(2))])
    page = attention_html(data, "a < b & c")
    assert page.count("</script>") == 1 and "<b>" not in page
    assert "a &lt; b &amp; c" in page
    inside = re.search(r'getElementById\("attention"\), (.*)\);', page)
    assert json.loads(inside[1])["tokens"] == ["</script><b>", "x"]


def test_tokens_are_set_as_text():
    """Never as HTML: tokens may be typed by anybody."""
    assert "innerHTML" not in SCRIPT and "textContent" in SCRIPT


def test_the_style_takes_its_colours_from_the_page():
    assert "var(--st-text-color" in CSS and "CanvasText" in CSS
    assert not re.findall(r"#[0-9a-f]{6}\b", CSS), "a fixed colour would not read in both themes"


@pytest.mark.skipif(shutil.which("node") is None, reason="node checks the script's grammar")
def test_the_script_is_javascript(tmp_path):
    path = tmp_path / "script.mjs"
    path.write_text(SCRIPT)
    subprocess.run(["node", "--check", str(path)], check=True, capture_output=True)
