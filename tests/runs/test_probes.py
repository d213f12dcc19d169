"""What probes measured, as lines in a run's folder: added in order, put in their place, and read though cut short."""

import json

import numpy as np
import pytest

from playground.results import GradientShares
from playground.runs.probes import insert_result, probe_file, probe_files, store_result, stored_rows
from playground.runs.store import load_run
from tests.fake_runs import write_run
from tests.ui.support import cut_last_line


def _result(value: float) -> GradientShares:
    return GradientShares(share=np.array([value, np.nan]), cosine=np.eye(2), loss=np.array([1.0, 2.0]))


def _stored(path):
    return [(row["step"], row["tokens"], row["share"][0]) for row in stored_rows(path, "gradients")]


def test_results_are_added_line_by_line(tmp_path):
    for step, value in ((0, 0.1), (5, 0.2), (7, 0.3)):
        store_result(tmp_path, "gradients", _result(value), step=step, tokens=10 * step)
    assert _stored(tmp_path) == [(0, 0, 0.1), (5, 50, 0.2), (7, 70, 0.3)]
    assert probe_file(tmp_path, "gradients") == tmp_path / "probes" / "gradients.jsonl"
    lines = probe_file(tmp_path, "gradients").read_text().splitlines()
    assert json.loads(lines[0])["share"] == [0.1, None]


@pytest.mark.parametrize(("step", "expected"), [
    (3, [0, 3, 5]), (0, [0, 5]), (5, [0, 5]), (9, [0, 5, 9]),
])  # fmt: skip
def test_a_result_is_put_where_it_belongs_in_place_of_what_stood_there(tmp_path, step, expected):
    for at in (0, 5):
        store_result(tmp_path, "gradients", _result(0.1), step=at, tokens=10 * at)
    insert_result(tmp_path, "gradients", _result(0.9), step=step, tokens=10 * step)
    assert _stored(tmp_path) == [(at, 10 * at, 0.9 if at == step else 0.1) for at in expected]
    assert [path.name for path in (tmp_path / "probes").iterdir()] == ["gradients.jsonl"]


def test_the_first_result_of_a_probe_makes_its_file(tmp_path):
    assert stored_rows(tmp_path, "gradients") == [] and probe_files(tmp_path) == []
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
    run = load_run(write_run(tmp_path, steps=20))
    assert run.history("gradients", GradientShares).steps == ()
    for at in (5, 0):
        insert_result(run.path, "gradients", _result(at / 10), step=at, tokens=10 * at)
    found = run.history("gradients", GradientShares)
    assert (found.steps, found.tokens) == ((0, 5), (0, 50))
    assert found.results[1].share[0] == 0.5 and np.isnan(found.results[1].share[1])
