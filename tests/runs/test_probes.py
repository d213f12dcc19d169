"""What probes measured, as lines in a run's folder: added in order, put in their place, and read though cut short."""

import json

import numpy as np
import pytest

from playground.results import AttentionScores, GradientShares
from playground.runs.probes import insert_result, probe_file, probe_files, read_history, store_result
from playground.runs.store import load_run
from tests.fake_runs import write_run
from tests.runs.test_files import any_lines
from tests.ui.support import cut_last_line


def _result(value: float) -> GradientShares:
    return GradientShares(share=np.array([value, np.nan]), cosine=np.eye(2), loss=np.array([1.0, 2.0]))


def _stored(path):
    return [(row["step"], row["tokens"], row["share"][0]) for row in any_lines(probe_file(path, "gradients"))]


def test_results_are_added_line_by_line(tmp_path):
    for step, value in ((0, 0.1), (5, 0.2), (7, 0.3)):
        store_result(tmp_path, "gradients", _result(value), step=step, tokens=10 * step)
    assert _stored(tmp_path) == [(0, 0, 0.1), (5, 50, 0.2), (7, 70, 0.3)]
    assert probe_file(tmp_path, "gradients") == tmp_path / "probes" / "gradients.jsonl"
    lines = probe_file(tmp_path, "gradients").read_text().splitlines()
    assert json.loads(lines[0])["share"] == [0.1, None]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (3, [0, 3, 5]),
        (0, [0, 5]),
        (5, [0, 5]),
        (9, [0, 5, 9]),
    ],
)
def test_a_result_is_put_where_it_belongs_in_place_of_what_stood_there(tmp_path, step, expected):
    for at in (0, 5):
        store_result(tmp_path, "gradients", _result(0.1), step=at, tokens=10 * at)
    insert_result(tmp_path, "gradients", _result(0.9), step=step, tokens=10 * step)
    assert _stored(tmp_path) == [(at, 10 * at, 0.9 if at == step else 0.1) for at in expected]
    assert [path.name for path in (tmp_path / "probes").iterdir()] == ["gradients.jsonl"]


def test_the_first_result_of_a_probe_makes_its_file(tmp_path):
    assert any_lines(probe_file(tmp_path, "gradients")) == [] and probe_files(tmp_path) == []
    insert_result(tmp_path, "gradients", _result(0.9), step=2, tokens=20)
    store_result(tmp_path, "agreement", _result(0.1), step=2, tokens=20)
    assert _stored(tmp_path) == [(2, 20, 0.9)]
    assert [path.stem for path in probe_files(tmp_path)] == ["agreement", "gradients"]


def test_a_line_cut_short_is_left_out_and_written_over(tmp_path):
    for at in (0, 5):
        store_result(tmp_path, "gradients", _result(0.1), step=at, tokens=10 * at)
    cut_last_line(probe_file(tmp_path, "gradients"))
    assert _stored(tmp_path) == [(0, 0, 0.1)]
    insert_result(tmp_path, "gradients", _result(0.2), step=5, tokens=50)
    assert _stored(tmp_path) == [(0, 0, 0.1), (5, 50, 0.2)]


def test_a_stored_history_is_read_back_as_results(tmp_path):
    run = load_run(write_run(tmp_path, n_future=2, steps=20))
    assert run.history("gradients", GradientShares).steps == ()
    for at in (5, 0):
        insert_result(run.path, "gradients", _result(at / 10), step=at, tokens=10 * at)
    found = run.history("gradients", GradientShares)
    assert (found.steps, found.tokens) == ((0, 5), (0, 50))
    assert found.results[1].share[0] == 0.5 and np.isnan(found.results[1].share[1])


# --- damage -------------------------------------------------------------------------------------------------------------

MODEL = {"n_layers": 3, "n_heads": 4, "d_model": 64, "n_future": 2}
WRONG = {
    "no JSON": "{",
    "no object": "[1]",
    "no step": {"step": None},
    "step as text": {"step": "3"},
    "huge step": {"step": 10**30},
    "missing field": {"loss": ...},
    "text for numbers": {"loss": ["a", "b"]},
    "numbers as text": {"loss": ["1", "2"]},
    "ragged": {"cosine": [[1.0], [1.0, 0.0]]},
    "other size": {"loss": [1.0, 2.0, 3.0]},
    "other axes": {"loss": [[1.0, 2.0]]},
    "infinite": {"loss": [1.0, float("inf")]},
    "one offset more than the model has": {"loss": [1.0] * 3, "share": [1.0] * 3, "cosine": [[1.0] * 3] * 3},
    "a huge empty array": {"loss": {"shape": [0, 10**12]}},
    "an object": {"loss": {"a": 1}},
    "a number": {"loss": 3},
    "true": {"loss": [True, False]},
    "nested": {"loss": [[[[[[]]]]]]},
}


def with_bad_row(path, changes) -> None:
    """Three good rows, with a bad one after the first."""
    for step in (0, 5, 9):
        store_result(path, "gradients", _result(0.1), step=step, tokens=10 * step)
    file = probe_file(path, "gradients")
    first, *others = file.read_text().splitlines()
    bad = changes
    if isinstance(changes, dict):
        values = json.loads(first) | {"step": 3} | changes
        bad = json.dumps({key: value for key, value in values.items() if value is not ...})
    file.write_text("\n".join([first, bad, *others]) + "\n")


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_bad_row_hides_no_other_and_is_counted(tmp_path, changes):
    with_bad_row(tmp_path, changes)
    found = read_history(tmp_path, "gradients", GradientShares, MODEL)
    assert found.history.steps == (0, 5, 9)
    assert [line.number for line in found.bad] == [2] and 0 < len(found.bad[0].problem) < 100


@pytest.mark.parametrize("changes", ["{", "[1]", {"step": "3"}], ids=str)
def test_inserting_a_result_keeps_what_cannot_be_read(tmp_path, changes):
    with_bad_row(tmp_path, changes)
    before = probe_file(tmp_path, "gradients").read_text().splitlines()
    insert_result(tmp_path, "gradients", _result(0.9), step=5, tokens=50)
    after = probe_file(tmp_path, "gradients").read_text().splitlines()
    assert len(after) == 4 and [line for line in before if line in after] == [*before[:2], before[3]]
    assert read_history(tmp_path, "gradients", GradientShares, MODEL).history.results[1].share[0] == 0.9


def test_scores_of_heads_that_the_model_does_not_have_are_left_out(tmp_path):
    path = write_run(tmp_path, n_future=2, steps=20)
    (run, other) = (load_run(path), load_run(write_run(tmp_path, n_future=1, steps=20)))
    assert run.attention.steps and other.attention.steps
    probe_file(run.path, "attention").write_bytes(probe_file(other.path, "attention").read_bytes())
    found = run.read_history("attention", AttentionScores)
    assert found.history.steps == () and "the model has no layer blocks.1" in found.bad[0].problem
    assert "probes/attention.jsonl" not in "".join(run.problems)  # its rows are rows; only what they say does not fit


def test_rows_of_different_models_in_one_file_are_told_apart(tmp_path):
    for step, size in ((0, 2), (5, 3), (9, 2)):
        result = GradientShares(share=np.ones(size), cosine=np.eye(size), loss=np.ones(size))
        store_result(tmp_path, "gradients", result, step=step, tokens=step)
    found = read_history(tmp_path, "gradients", GradientShares)
    assert found.history.steps == (0, 9)
    assert found.bad[0].problem == "it was measured on another model than the first line"
