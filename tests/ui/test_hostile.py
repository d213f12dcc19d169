"""Every page with runs whose texts are attempts at markup: each text is there as itself, and nowhere as markup."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from playground.figures.text import plain as figure_text
from playground.text import visible
from playground.ui.shared.text import code, plain
from tests.hostile import HOSTILE, NAME, SHOWN, TASK, is_live, write_hostile
from tests.ui.support import PAGES, assert_well, entry, figures, go, labels, open_app, widget, write_job

VIEWS = ("Formation", "Heat-maps", "Attention at work", "Composition", "Ablation")
NO_MARKDOWN = {
    "id", "key", "url", "element_id", "form_id", "file_name", "icon", "spec", "config", "page", "page_script_hash",
    "query_string", "user_key", "json", "js", "css", "html_content",
}  # fmt: skip
"""Fields of Streamlit's messages that are no text on a page, or, as `spec`, are looked at by other tests here."""
UNMARKED = {
    ("Selectbox", "options"),
    ("MultiSelect", "options"),
    ("TextArea", "default"),
    ("TextInput", "default"),
    ("Html", "body"),
}
"""Texts on a page that Streamlit draws as they are; HTML is made by prediction_text.py."""


@pytest.fixture
def hostile(runs: Path) -> Path:
    """Runs in every state that pages speak of, folders that are no runs, a job that failed."""
    write_hostile(runs)
    write_hostile(runs, state="finished", n_future=2, name=f"{NAME} 2")
    write_hostile(runs, state="finished", name=f"{NAME} 7", text="other")
    write_hostile(runs, task="induction", state="failed", name=f"{NAME} 3")
    write_hostile(runs, task="induction", state="finished", n_future=2, name=f"{NAME} 4")
    write_hostile(runs, task="induction", state="stopped", n_future=2, seed=1, name=f"{NAME} 5")
    for name in (f"{NAME} 6", "x\x1b[31m", "$x^2$"):
        (runs / name).mkdir()
    (runs / "$x^2$" / "run.json").write_text(json.dumps({"run": HOSTILE, HOSTILE: HOSTILE}))
    write_job(runs, entry(status="failed", message=HOSTILE, run="gone"))
    return runs


def texts(app: AppTest) -> list[tuple[str, str, str]]:
    """Kind of element, field and text of every string that the page holds."""
    found: list[tuple[str, str, str]] = []
    for element in app:
        proto = getattr(element, "proto", None)
        found += [(type(proto).__name__, field, text) for field, text in _strings(proto or ())]
    return found


def _strings(message: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(message, str):
        yield name, message
    elif isinstance(message, Message):
        for field, value in message.ListFields():
            yield from _strings(value, field.name)
    elif not isinstance(message, bytes | int | float | bool):
        for part in message:
            yield from _strings(part, name)


def assert_shown_as_itself(app: AppTest) -> str:
    """No text is markup of what a run holds; returns what the page says, without what marks it as text."""
    assert_well(app)
    found = [item for item in texts(app) if item[1] not in NO_MARKDOWN]
    live = [item for item in found if (item[0], item[1]) not in UNMARKED and is_live(item[2])]
    assert not live
    assert not [item for item in found if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", item[2])]
    for name, figure in figures(app).items():
        assert not [text for text in _all_texts(figure) if "<img" in text or "<b>h" in text or "$x" in text], name
    return "\n".join(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text.replace(":color[]", "")) for _, _, text in found)


def open_at(task: str, page: str) -> AppTest:
    """A page with the runs of a task; only runs of installed tasks can be trained or loaded."""
    app = go(open_app().run(), "compare")
    widget(app, "task").set_value(task).run()
    return app if page == "compare" else go(app, page)


def _all_texts(figure: Any) -> Iterator[str]:
    """The strings of a figure's specification that are drawn; groups of the legend are not."""
    if isinstance(figure, str):
        yield figure
    elif isinstance(figure, dict):
        for key, value in figure.items():
            yield from () if key in ("legendgroup", "bdata") else _all_texts(value)
    elif isinstance(figure, list):
        for value in figure:
            yield from _all_texts(value)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("task", ["induction", TASK], ids=["weights", "no task"])
def test_every_text_is_shown_as_itself(hostile: Path, page: str, task: str) -> None:
    said = assert_shown_as_itself(open_at(task, page))
    assert NAME in said and f"{len(list(hostile.iterdir())) - 7} folders not readable" in said
    if page == "compare":
        assert SHOWN in said
        assert f"{NAME} 3 failed: {SHOWN}" in said or f"{NAME} failed: {SHOWN}" in said


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_heads(hostile: Path, view: str) -> None:
    app = open_app(task="Induction", view=view).run()
    said = assert_shown_as_itself(go(app, "heads"))
    assert NAME in said


def test_what_failed_and_what_goes_on(hostile: Path) -> None:
    app = open_app().run()
    app.session_state["watched"] = ["job-1", f"{NAME} 3", f"{NAME} 5"]
    said = assert_shown_as_itself(app.run())
    assert f"did not start. {SHOWN}" in said and f"This training failed: {SHOWN}." in said
    assert f"Resume {plain(NAME + ' 5')} from step 60" in labels(app, "button")


def test_figures_show_names_as_themselves(hostile: Path) -> None:
    drawn = figures(open_at(TASK, "compare"))
    label = figure_text("n = 1, text '![x](http://127")
    for name in (f"{TASK}-{HOSTILE}", f"{TASK}-t50", f"{TASK}-loss-eval"):
        assert any(label in text for text in _all_texts(drawn[name])), name
    titles = list(_all_texts(drawn[f"{TASK}-{HOSTILE}"]["layout"]))
    assert any(figure_text(HOSTILE.replace("_", " ")) in text for text in titles)


def test_tables_hold_texts_without_control_characters(hostile: Path) -> None:
    app = go(open_app(task="Induction").run(), "compare")
    tables = [frame.value.astype(str).to_numpy().ravel().tolist() for frame in app.dataframe]
    assert all(SHOWN in cells for cells in tables) and all(f"{NAME} 4" in cells for cells in tables)


def test_an_unexpected_error_is_shown_as_itself(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from playground.ui.heads import formation as heads_formation

    def fail(*_: Any) -> None:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr(heads_formation, "score_names", fail)
    app = go(open_app(task="Induction", view="Formation").run(), "heads")
    (caption,) = [item.value for item in app.caption if "RuntimeError" in item.value]
    assert plain(HOSTILE) in caption and not is_live(caption)


def test_what_somebody_types_is_shown_as_itself(hostile: Path) -> None:
    app = go(open_app(task="Induction", view="Attention at work").run(), "heads")
    widget(app, "row-from").set_value("typed").run()
    app.text_input[0].set_value(HOSTILE).run()
    said = assert_shown_as_itself(app)
    assert visible("![x](http:") in said


def test_the_folder_of_runs_is_shown_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / NAME / "`x` \x1b[31m"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(folder))
    app = open_app().run()
    assert any(code(folder) in item.value for item in app.caption)
    assert_shown_as_itself(app)
    assert any(code(folder) in item.value for item in go(app, "compare").info)
