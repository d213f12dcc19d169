"""Every page in every state that a folder of runs can be in: it draws, without an error, and says something useful."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_runs import STATES, settle, write_run
from tests.ui.support import (
    PAGES,
    Training,
    annotations,
    assert_well,
    change_json,
    cut_last_line,
    cut_short,
    figures,
    go,
    open_app,
    open_page,
    words,
)

TASKS = ("induction", "stories", "polynomial", "bytes")


def empty(folder: Path) -> None: ...


def no_folder(folder: Path) -> None:
    folder.rmdir()


def a_file(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("not a folder")


def one_finished(folder: Path) -> None:
    write_run(folder, steps=100)


def one_stopped(folder: Path) -> None:
    write_run(folder, steps=100, state="stopped")


def one_failed(folder: Path) -> None:
    write_run(folder, steps=100, state="failed")


def one_training(folder: Path) -> None:
    write_run(folder, steps=100, state="running")


def every_state(folder: Path) -> None:
    for seed, state in enumerate(STATES):
        write_run(folder, steps=100, n_future=1 + seed % 2, seed=seed, state=state)


def no_rows(folder: Path) -> None:
    for seed, state in enumerate(("stopped", "failed", "interrupted")):
        write_run(folder, seed=seed, state=state, done=0)


def no_rows_yet(folder: Path) -> None:
    write_run(folder, state="running", done=0)


def broken(folder: Path) -> None:
    """Two whole runs, every kind of damage to a run, and twelve folders that are none."""
    damaged = [write_run(folder, steps=100, n_future=1 + seed % 2, seed=seed) for seed in range(8)]
    cut_short(damaged[2] / "config.json")
    (damaged[3] / "config.json").unlink()
    cut_last_line(damaged[4] / "metrics.jsonl")
    cut_last_line(damaged[4] / "probes/attention.jsonl")
    (damaged[5] / "probes/attention.jsonl").unlink()
    (damaged[6] / "metrics.jsonl").unlink()
    (damaged[7] / "metrics.jsonl").write_text("")
    cut_short(write_run(folder, steps=100, seed=8) / "run.json")
    for number in range(11):
        (folder / f"no-run-{number:02}").mkdir()


def only_broken(folder: Path) -> None:
    cut_short(write_run(folder, steps=100) / "run.json")


def several_tasks(folder: Path) -> None:
    for created, task in enumerate(TASKS):
        for n_future in (1, 2):
            write_run(folder, f"{task}-cpu", steps=100, n_future=n_future, created=float(created))


def n_and_controls(folder: Path) -> None:
    for n_future in (1, 2, 4):
        for control in ("layers", "trunk"):
            write_run(folder, "stories-cpu", steps=100, n_future=n_future, control=control)


def several_seeds(folder: Path) -> None:
    for seed in range(5):
        for n_future in (1, 2):
            write_run(folder, steps=100, n_future=n_future, seed=seed)


def unknown_task(folder: Path) -> None:
    path = write_run(folder, steps=100)
    config = json.loads((path / "config.json").read_text())
    change_json(path / "config.json", task=config["task"] | {"name": "sorting"}, preset=None)
    settle(path)
    (path / "checkpoints" / "100").mkdir(parents=True)


def copied(folder: Path) -> None:
    path = write_run(folder, steps=100, state="stopped")
    shutil.copytree(path, folder / "copy")


NO_RUNS = "There are no stored runs yet"
FIRST = "Train the first models"
NO_WEIGHTS = "None of these runs has stored weights, which this page needs, yet."
NOT_MEASURED = "None of these runs has stored"
FORMATION = "A line is one attention head"
FAILED = "failed: the loss of offset 1 became nan at step 3"
SAYS: dict[Callable[[Path], None], tuple[str, dict[str, list[str]]]] = {
    empty: (
        "No stored runs yet.",
        {"train": ["Train 2 models"], "compare": [NO_RUNS, FIRST], "heads": [NO_RUNS, FIRST], "lens": [NO_RUNS, FIRST]},
    ),
    no_folder: (
        "No stored runs yet.",
        {"train": ["Train 2 models"], "compare": [NO_RUNS, FIRST], "heads": [NO_RUNS, FIRST], "lens": [NO_RUNS, FIRST]},
    ),
    a_file: (
        "No stored runs yet.",
        {"train": ["Train 2 models"], "compare": [NO_RUNS, FIRST], "heads": [NO_RUNS, FIRST], "lens": [NO_RUNS, FIRST]},
    ),
    one_finished: (
        "1 finished",
        {
            "train": [
                "Trained already",
                "1 finished run: Induction.",
                "Compare the runs",
                "Replay how the heads formed",
            ],
            "compare": ["- **n = 1**: after", "1 seed here: a claim needs at least 8."],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    one_stopped: (
        "1 stopped",
        {
            "train": ["1 run not finished", "Resume induction-cpu-n1-layers-s0"],
            "compare": ["A cross marks where a seed ended early"],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    one_failed: (
        "1 failed",
        {"train": ["Train 2 models"], "compare": [FAILED], "heads": [FORMATION], "lens": [NO_WEIGHTS, FAILED]},
    ),
    one_training: (
        "1 training",
        {
            "train": ["step 60 of 100", "Stop induction-cpu-n1-layers-s0", "Train something else"],
            "compare": ["Loss per offset"],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    every_state: (
        "1 training, 1 finished, 1 stopped, 1 interrupted, 1 failed",
        {
            "train": ["step 60 of 100", "about 5 seconds left"],
            "compare": ["- **n = 1**", "- **n = 2, layers**", FAILED],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    no_rows: (
        "1 stopped, 1 interrupted, 1 failed",
        {
            "train": ["2 runs not finished", "from step 0"],
            "compare": [f"{NOT_MEASURED} a measurement yet. 1 run {FAILED}"],
            "heads": [f"{NOT_MEASURED} attention scores yet. 1 run {FAILED}"],
            "lens": [f"{NO_WEIGHTS} 1 run {FAILED}"],
        },
    ),
    no_rows_yet: (
        "1 training",
        {
            "train": ["step 0 of 700", "The first figures appear with the first evaluation."],
            "compare": ["1 run is training: the first evaluation follows within seconds.", "Look again"],
            "heads": ["1 run is training: the first evaluation follows within seconds.", "Look again"],
            "lens": ["1 run is training", "Look again"],
        },
    ),
    broken: (
        "14 folders not readable",
        {
            "train": ["6 finished runs: Induction."],
            "compare": ["- **n = 1", "- **n = 2"],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    only_broken: (
        "1 folder not readable",
        {
            "train": ["Train 2 models"],
            "compare": [NO_RUNS, "1 folder there cannot be read; the sidebar lists them."],
            "heads": [NO_RUNS, "1 folder there cannot be read; the sidebar lists them."],
            "lens": [NO_RUNS, "1 folder there cannot be read; the sidebar lists them."],
        },
    ),
    several_tasks: (
        "8 finished",
        {
            "train": ["8 finished runs: Bytes, Induction, Polynomials, Stories."],
            "compare": ["bits per byte", "Bits per byte, per offset"],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    n_and_controls: (
        "6 finished",
        {
            "train": ["6 finished runs: Stories."],
            "compare": [f"- **{name}**" for name in ("n = 1", "n = 2, layers", "n = 2, trunk", "n = 4, trunk")],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    several_seeds: (
        "10 finished",
        {
            "train": ["10 finished runs"],
            "compare": ["median, 5 of 5 seeds got there"],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
    unknown_task: (
        "1 finished",
        {
            "train": ["1 finished run: sorting."],
            "compare": ["- **n = 1**: after"],
            "heads": [FORMATION],
            "lens": ["This model cannot be opened", "there is no task 'sorting'"],
        },
    ),
    copied: (
        "2 stopped",
        {
            "train": ["2 runs not finished", "Resume copy from step 0"],
            "compare": ["- **n = 1**"],
            "heads": [FORMATION],
            "lens": [NO_WEIGHTS],
        },
    ),
}
"""For each state: what the side bar says on every page, and what each page says."""


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", SAYS, ids=lambda state: state.__name__)
def test_a_page_says_something_useful(runs: Path, state: Callable[[Path], None], page: str) -> None:
    state(runs)
    app = open_page(page)
    says, by_page = SAYS[state]
    by_page = by_page | {"decode": by_page["lens"]}  # both need stored weights
    by_page["about"] = ["What n-token prediction is"]
    if FORMATION in by_page["heads"]:
        by_page["probes"] = ["Attention scores of every head on rows of the task", "The numbers ("]
    text = words(app)
    assert says in text
    assert "Runs folder: `" in text
    for phrase in by_page.get(page, [app.title[0].value]):
        assert phrase in text


@pytest.mark.parametrize("state", SAYS, ids=lambda state: state.__name__)
def test_one_visit_leads_through_all_pages_and_back(runs: Path, state: Callable[[Path], None]) -> None:
    state(runs)
    app = open_app().run()
    for page in (*list(PAGES)[1:], next(iter(PAGES))):
        go(app, page)
        assert_well(app)
        assert app.title[0].value == page.capitalize()


@pytest.mark.parametrize("page", ["train", "compare", "heads", "lens", "decode"])
@pytest.mark.parametrize("task", ["Nonsense", "", "Bytes"])
def test_an_address_with_a_task_that_is_not_there_does_no_harm(runs: Path, page: str, task: str) -> None:
    one_finished(runs)
    assert "1 finished" in words(open_page(page, task=task))


def test_the_folder_may_change_under_a_page(runs: Path) -> None:
    """Runs come, grow and go between two draws of the same page."""
    app = open_page("compare")
    assert NO_RUNS in words(app)
    path = write_run(runs, steps=100, state="stopped", done=0.2)
    other = write_run(runs, steps=100, n_future=2)
    app.run()
    assert_well(app)
    assert len(app.dataframe[0].value) == 2
    shutil.rmtree(path)
    app.run()
    assert_well(app)
    assert app.dataframe[0].value["run"].tolist() == [other.name]
    shutil.rmtree(other)
    assert NO_RUNS in words(app.run())


def test_a_run_that_starts_between_two_draws_takes_the_first_page_over(runs: Path, training: Training) -> None:
    app = open_page("train")
    training.write_run(runs, steps=100)
    assert "step 60 of 100" in words(app.run())
    assert_well(app)
    training.kill()
    app.run()
    assert_well(app)
    assert "**Done**: 1 run interrupted." in words(app)
    assert "Resume induction-cpu-n1-layers-s0" in words(app)


def test_the_figures_of_a_damaged_run_leave_it_out(runs: Path) -> None:
    broken(runs)
    (heads,) = figures(open_page("heads")).values()
    assert "seed 7" in annotations(heads) and "seed 3" not in annotations(heads)
