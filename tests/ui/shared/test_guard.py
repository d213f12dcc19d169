"""The last line of defence: errors nobody expected become a sentence."""

import logging

import pytest
from streamlit.testing.v1 import AppTest

from playground.ui.shared.guard import guarded
from tests.ui.support import PATIENCE, words

HEAD = "import streamlit as st\nfrom playground.ui.shared.guard import guarded\n"


def run_guarded(body: str) -> AppTest:
    """A page that draws a guarded function with this body, and a line after it."""
    script = f"{HEAD}@guarded\ndef draw(*what, **more):\n    {body}\ndraw('a', b='c')\nst.text('the rest')\n"
    return AppTest.from_string(script, default_timeout=PATIENCE).run()


@pytest.mark.parametrize(
    ("raised", "hint"),
    [
        ("PermissionError(13, 'denied', 'runs/a')", "check the permissions"),
        ("OSError(28, 'No space left')", "is the disk full"),
        ("FileNotFoundError('gone')", "was a run removed just now"),
        ("ModuleNotFoundError('no plotly')", "`make app` installs all of them"),
        ("KeyError('loss_1')", "choose other runs or settings"),
    ],
)
def test_an_error_becomes_a_sentence_and_the_rest_is_drawn(
    raised: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="playground.ui"):
        app = run_guarded(f"raise {raised}")
    assert not app.exception
    assert len(app.error) == 1 and hint in app.error[0].value
    assert raised.partition("(")[0] in app.caption[0].value
    assert [item.value for item in app.text] == ["the rest"]
    assert "Traceback" in caplog.text and raised.partition("(")[0] in caplog.text


def test_what_is_guarded_gets_its_arguments() -> None:
    app = run_guarded("st.markdown(f'{what[0]} {more[\"b\"]}')")
    assert words(app) == "a c" and not app.error


@pytest.mark.parametrize("call", ["st.stop()", "st.session_state.setdefault('again', 0) or st.stop()"])
def test_a_stop_of_streamlit_passes_through(call: str) -> None:
    app = run_guarded(call)
    assert not app.error and not app.exception and not app.text


def test_a_rerun_of_streamlit_passes_through() -> None:
    app = run_guarded("n = st.session_state['n'] = st.session_state.get('n', 0) + 1\n    n < 3 and st.rerun()")
    assert app.session_state["n"] == 3
    assert not app.error and not app.exception and len(app.text) == 1


def test_the_name_of_what_is_guarded_stays() -> None:
    assert guarded(draw_nothing).__name__ == "draw_nothing"


def draw_nothing() -> None: ...
