"""The side bar: the folder, the runs in it by state, and what cannot be read."""

from collections import Counter
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.fake_runs import write_run
from tests.ui.support import PATIENCE, cut_short


def sidebar() -> AppTest:
    script = "from playground.ui.shared.sidebar import sidebar\nsidebar()\n"
    app = AppTest.from_string(script, default_timeout=PATIENCE).run()
    assert not app.exception
    return app


def captions(app: AppTest) -> list[str]:
    return [caption.value for caption in app.sidebar.caption]


def test_it_names_the_folder_and_how_to_choose_another(runs: Path) -> None:
    (folder, *_) = sidebar().sidebar.caption
    assert folder.value == f"Runs folder: `{runs}`"
    assert f"{runs}. " in folder.help and "PLAYGROUND_RUNS_DIR" in folder.help


def test_a_relative_folder_is_told_in_full(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", "runs")
    (folder, *_) = sidebar().sidebar.caption
    assert folder.value == "Runs folder: `runs`"
    assert folder.help.startswith(str(runs))


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ([], "No stored runs yet."),
        (["finished"], "1 finished"),
        (["finished", "finished", "running"], "1 training, 2 finished"),
        (["failed", "interrupted", "stopped"], "1 stopped, 1 interrupted, 1 failed"),
    ],
)
def test_runs_are_counted_by_state(runs: Path, states: list[str], says: str) -> None:
    for seed, state in enumerate(states):
        write_run(runs, steps=20, seed=seed, state=state)
    assert captions(sidebar())[1] == says


@pytest.mark.parametrize(
    ("count", "label", "listed", "more"),
    [
        (0, None, 0, None),
        (1, "1 folder not readable", 1, None),
        (10, "10 folders not readable", 10, None),
        (13, "13 folders not readable", 10, "and 3 more"),
    ],
)
def test_folders_that_cannot_be_read_are_listed_with_their_reasons(
    runs: Path, count: int, label: str | None, listed: int, more: str | None
) -> None:
    for number in range(count):
        (runs / f"empty-{number:02}").mkdir()
    if count == 1:
        cut_short(write_run(runs, steps=20) / "run.json")
        (runs / "empty-00").rmdir()
    app = sidebar()
    assert [expander.label for expander in app.expander] == ([label] if label else [])
    lines = [line.value for line in app.sidebar.markdown]
    assert len(lines) == listed
    reasons = Counter("missing" in line for line in lines)
    assert reasons == ({False: 1} if count == 1 else {True: listed} if listed else {})
    assert (more in captions(app)) if more else not [text for text in captions(app) if text.startswith("and ")]
    assert any("Remove the folder" in text for text in captions(app)) is bool(count)
