"""Data as Markdown that shows it as it is, and a look at the code: no data goes into Markdown in another way."""

from pathlib import Path

import pytest

from playground.ui.shared.text import MOST, SPLIT, code, file_name, plain
from tests.conftest import ROOT
from tests.hostile import HOSTILE, NAME, TASK, is_live
from tests.ui.markdown_calls import Package

HEAD = "import streamlit as st\nfrom playground.ui.shared.text import plain\n"


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("n = 2, layers, lr = 0.001", "n = 2, layers, lr = 0.001"),
        ("stories-cpu-n2-layers-s0-a09b50a6", "stories-cpu-n2-layers-s0-a09b50a6"),
        ("repeat_accuracy", "repeat_accuracy"),
        ("_a_", r"\_a\_"),
        ("a*b`c~d|e#f", r"a\*b\`c\~d\|e\#f"),
        ("<b>&amp;", r"\<b\>\&amp;"),
        ("$x$", r"\$x\$"),
        ("a:red", rf"a\:{SPLIT}red"),
        ("told: so:", r"told: so\:"),
        ("www.a.b", f"www{SPLIT}.a.b"),
        ("a@b.c", f"a{SPLIT}@b.c"),
        ("a@ b", "a@ b"),
        ("a -> b", rf"a \-{SPLIT}\> b"),
        ("--flag", "--flag".replace("-", r"\-", 1)),
        ("a -- b", rf"a \-{SPLIT}\- b"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("1) item", r"1\) item"),
        (" a ", "&#32;a&#32;"),
        ("    code", "&#32;" * 4 + "code"),
        ("a\nb\x1b\ud800", r"a\\nb\\x1b\\ud800"),
        ("", ""),
        (" ", "&#32;"),
        (ValueError("x"), "x"),
    ],
)
def test_plain(text: object, markdown: str) -> None:
    assert plain(text) == markdown


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("runs/a_b", "`runs/a_b`"),
        ("a`b``c", "```a`b``c```"),
        ("`a", "`` `a ``"),
        (" a", "`  a `"),
        ("", "`   `"),
        ("a\nb", r"`a\nb`"),
        (":material/home:", f"`:`{SPLIT}`material/home:`"),
    ],
)
def test_code(text: str, markdown: str) -> None:
    assert code(text) == markdown


@pytest.mark.parametrize("mark", [plain, code])
def test_a_text_is_bounded(mark: object) -> None:
    assert callable(mark)
    assert mark("a" * 10_000).strip("`") == "a" * (MOST - 2) + ".."


@pytest.mark.parametrize("text", [HOSTILE, NAME, TASK])
def test_nothing_hostile_is_left(text: str) -> None:
    assert is_live(text) and not is_live(plain(text)) and not is_live(code(text))


def test_file_name() -> None:
    assert file_name("induction-cpu_n1.html") == "induction-cpu_n1.html"
    assert file_name("a/../b\x1b<c>") == "a_b_c" and file_name("") == file_name("..") == "file"
    assert len(file_name("a" * 1000)) == 100


# --- the code of the pages --------------------------------------------------------------------------------------------


def test_no_data_goes_into_markdown_unmarked() -> None:
    assert not Package(ROOT / "playground/ui").unmarked(), (
        "write plain(..) or code(..), from playground/ui/shared/text.py, around it"
    )


def unmarked(folder: Path, source: str) -> list[str]:
    (folder / "page.py").write_text(HEAD + source)
    return [line.split(": ", 1)[1] for line in Package(folder).unmarked()]


@pytest.mark.parametrize(
    "source",
    [
        "st.caption(run.id)",
        "st.caption(f'of {run.id}')",
        "st.button('a', help=run.reason)",
        "place.warning('failed: ' + reason)",
        "text = 'a'\ntext += run.id\nst.markdown(text)",
        "notes = []\nnotes.append(run.id)\nst.caption(' '.join(notes))",
        "def say(what: str):\n    st.info(what)\nsay(run.id)",
        "def told(run):\n    return f'{run.id}'\nst.info(told(run))",
        "st.pills('a', [run.id])",
        "st.segmented_control('a', names, format_func=lambda name: titles[name])",
        "st.progress(0.5, run.id)",
        "st.metric('a', run.id)",
        "st.column_config.Column(help=run.id)",
        "for name, text in things.items():\n    st.caption(text)",
    ],
)
def test_unmarked_data_is_found(tmp_path: Path, source: str) -> None:
    assert unmarked(tmp_path, source)


@pytest.mark.parametrize(
    "source",
    [
        "st.caption('written here')",
        "st.caption(f'of {plain(run.id)}, {run.step:,} steps')",
        "WORDS = {'a': 'b'}\nfor word, text in WORDS.items():\n    st.markdown(f'**{word}**: {text}')",
        "def say(what: str):\n    st.info(what)\nsay('a')\nsay(plain(run.id))",
        "notes = []\nnotes.append(plain(run.id))\nst.caption(' '.join(notes))",
        "st.selectbox('Run', [run.id for run in runs])",
        "st.segmented_control('a', names, format_func=lambda name: plain(titles[name]))",
        "shown.title(run)",
    ],
)
def test_marked_data_passes(tmp_path: Path, source: str) -> None:
    assert not unmarked(tmp_path, source)
