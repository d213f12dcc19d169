"""What is read for the Heads page, and what stands in the place of what is missing."""

from pathlib import Path

import pytest
import streamlit as st

from playground.results import Behaviour, Composition
from playground.runs.probes import probe_file
from playground.runs.store import Run, read_store
from playground.ui.heads import stored as stored
from playground.ui.heads.stored import RunsOnPage
from tests.fake_runs import write_run, write_weights
from tests.ui.support import cut_last_line

PROBES = ("attention", "task_attention", "composition", "behaviour")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sentences put on the page."""
    sentences: list[str] = []
    monkeypatch.setattr(st, "info", lambda text, **_: sentences.append(text))
    return sentences


def one(runs: Path, **options) -> Run:
    write_run(runs, steps=100, **options)
    return read_store(runs, lenient=True).runs[0]


def break_(run: Run, probe: str, text: str) -> None:
    probe_file(run.path, probe).write_text(text)


def test_a_whole_run_needs_no_words(runs: Path, said: list[str]) -> None:
    run = one(runs, n_future=2)
    assert all(stored.has_probe(run, probe) for probe in PROBES)
    assert stored.scores_of(run, "task_attention").steps == stored.best_scores(run).steps
    assert stored.scores_of(run, "attention").steps == run.attention.steps
    assert stored.compositions_of(run).steps == stored.probe_history(run, "behaviour", Behaviour).steps
    assert [event.name for event in stored.formation_of(run).main][:3] == [
        "previous token",
        "K-composition",
        "induction",
    ]
    assert not said


@pytest.mark.parametrize(
    ("weights", "advice"),
    [
        (False, "It has no stored weights to measure them from; a new training does it with `--probes task_attention"),
        (True, "--probe task_attention composition behaviour --step all"),
    ],
)
def test_what_is_missing_is_told_with_what_to_do(runs: Path, said: list[str], weights: bool, advice: str) -> None:
    run = one(runs)
    for probe in PROBES:
        probe_file(run.path, probe).unlink()
    if weights:
        write_weights(run.path, (100,))
    assert stored.scores_of(run, "task_attention") is None
    assert f"{run.id} has no stored attention scores on rows of the task." in said[0] and advice in said[0]
    assert stored.formation_of(run) is None
    assert "has no formation times" in said[1] and advice in said[1]
    assert stored.probe_history(run, "composition", Composition) is None
    assert stored.has_anything(run) is weights


@pytest.mark.parametrize(
    "text", ['{"step": 0, "tokens": 0}\n', '{"step": 0}\n', "[1]\n", '{"step": 0, "tokens": 0, "layers": 3}\n']
)
def test_files_of_another_version_are_told(runs: Path, said: list[str], text: str) -> None:
    run = one(runs)
    for probe in PROBES:
        break_(run, probe, text)
    assert stored.scores_of(run, "task_attention") is stored.scores_of(run, "attention") is None
    assert stored.compositions_of(run) is stored.formation_of(run) is None
    assert len(said) == 4
    assert all("cannot be read" in sentence and "Another version may have written it" in sentence for sentence in said)


def test_a_file_cut_short_is_read_as_far_as_it_goes(runs: Path, said: list[str]) -> None:
    run = one(runs)
    steps = run.task_attention.steps
    cut_last_line(probe_file(run.path, "task_attention"))
    assert stored.scores_of(run, "task_attention").steps == steps[:-1]
    assert not said


def test_an_empty_file_is_no_measurement(runs: Path, said: list[str]) -> None:
    run = one(runs)
    break_(run, "task_attention", "")
    assert not stored.has_probe(run, "task_attention")
    assert stored.best_scores(run).steps == run.attention.steps


def test_runs_without_scores_are_left_out(runs: Path, said: list[str]) -> None:
    for n_future in (1, 2):
        write_run(runs, steps=100, n_future=n_future)
    first, second = read_store(runs, lenient=True).runs
    probe_file(second.path, "task_attention").unlink()
    shown = RunsOnPage(runs=(first, second), titles={first.id: "one", second.id: "two"})
    assert list(stored.histories_of(shown, "task_attention")) == [first.id]
    assert second.id in said[0]
    assert list(stored.histories_of(shown, "attention")) == [first.id, second.id]


def test_only_scores_that_all_have(runs: Path) -> None:
    few, many = one(runs), None
    write_run(runs, "stories-cpu", n_future=8, control="trunk", steps=100)
    many = next(run for run in read_store(runs, lenient=True).runs if run.record.n_future == 8)
    assert "ahead_8" in stored.score_names([many.attention])
    both = stored.score_names([few.attention, many.attention])
    assert "ahead_4" in both and "ahead_8" not in both
    assert stored.score_names([]) == []
