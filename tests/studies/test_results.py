"""What a study has so far, from stored runs that are made up: states, pairs, censoring, verdicts, best rates, precision."""

import dataclasses

import pytest

from playground.running.presets import make_config
from playground.runs.store import list_runs
from playground.studies.definition import NEXT_TOKEN, Study, at_seed, looking_ahead
from playground.studies.results import study_result
from tests.studies.support import store

BASE = dataclasses.replace(make_config("induction-cpu", steps=20), preset=None)
SEEDS = tuple(range(8))


def a_study(**options) -> Study:
    kept = {
        "name": "s",
        "question": "Does it help?",
        "base": BASE,
        "arms": (NEXT_TOKEN, *looking_ahead(2)),
        "seeds": SEEDS,
    }
    return Study(**(kept | options))


def fill(study: Study, folder, crossing, arms=None, **record) -> None:
    """Store a finished run for every training; `crossing(arm, seed)` is its t50 in thousands of tokens, or None."""
    for cell in study.cells:
        for arm in arms or cell.configs:
            for seed in study.seeds:
                store(folder, at_seed(cell.configs[arm], seed), crossing(arm, seed), **record)


def collect(study, folder):
    return study_result(study, list_runs(folder)[0])


def test_nothing_is_there_at_first(tmp_path):
    found = collect(a_study(), tmp_path)
    assert found.count("missing") == 32 and found.cells[0].findings == {}
    assert found.cells[0].verdict.word == "not decided"


def test_looking_ahead_helps_under_both_controls(tmp_path):
    study = a_study()
    fill(study, tmp_path, lambda arm, seed: (10 + seed) * (0.5 if "layers" in arm or "trunk" in arm else 1))
    cell = collect(study, tmp_path).cells[0]
    assert cell.verdict.word == "helps"
    assert cell.findings["n = 2, layers"].effect.estimate == pytest.approx(0.5, rel=1e-3)
    assert cell.findings["n = 2, layers"].p_adjusted == pytest.approx(3 * 2 / 2**8)  # three tests, Holm
    assert cell.findings["n = 2, detached"].effect.estimate == pytest.approx(1.0)


def test_runs_that_never_got_there_are_counted(tmp_path):
    study = a_study()
    fill(study, tmp_path, lambda arm, seed: None if "trunk" in arm and seed < 4 else 10 + seed)
    arm = collect(study, tmp_path).cells[0].arms[2]
    assert arm.label == "n = 2, trunk" and arm.times().reached.tolist() == [False] * 4 + [True] * 4
    effect = collect(study, tmp_path).cells[0].findings["n = 2, trunk"].effect
    assert effect.estimate > 1 and effect.horizon is not None


def test_only_seeds_of_both_arms_are_paired(tmp_path):
    study = a_study()
    fill(study, tmp_path, lambda arm, seed: 10.0, arms=["n = 1"])
    cell = study.cells[0]
    for seed in (1, 4, 6):
        store(tmp_path, at_seed(cell.configs["n = 2, trunk"], seed), 20.0)
    found = collect(study, tmp_path)
    assert found.cells[0].findings["n = 2, trunk"].effect.pairs == 3
    assert found.count("finished") == 11 and found.count("missing") == 21


def test_a_run_of_another_study_or_made_by_hand_counts_and_other_seeds_do_not(tmp_path):
    study = a_study(seeds=(0, 1))
    fill(a_study(seeds=(1, 2, 3), name="other"), tmp_path, lambda arm, seed: 10.0)
    assert collect(study, tmp_path).count("finished") == 4
    more = dataclasses.replace(study, seeds=(0, 1, 2, 3))
    assert collect(more, tmp_path).count("finished") == 12


def test_states_of_trainings(tmp_path):
    study = a_study(seeds=(0, 1, 2, 3))
    configs = [at_seed(study.cells[0].configs["n = 1"], seed) for seed in study.seeds]
    store(tmp_path, configs[0], 10.0)
    store(tmp_path, configs[1], 10.0, status="failed", reason="the loss is not finite")
    store(tmp_path, configs[2], 10.0, status="stopped")
    found = {one.seed: one for one in collect(study, tmp_path).cells[0].arms[0].trainings}
    assert [found[seed].state for seed in study.seeds] == ["finished", "failed", "missing", "missing"]
    assert found[1].reason == "the loss is not finite" and found[2].run is not None and found[3].run is None
    store(tmp_path, configs[1], 12.0)  # tried again, and finished
    assert collect(study, tmp_path).count("failed") == 0


def test_precisions_do_not_mix(tmp_path):
    study = a_study(seeds=(0, 1, 2))
    fill(study, tmp_path, lambda arm, seed: 10.0, device="NVIDIA H200")
    store(tmp_path, at_seed(study.cells[0].configs["n = 1"], 0), 99.0, device="cpu (2 threads)")
    (cell,) = collect(study, tmp_path).cells
    assert cell.arms[0].times().times == pytest.approx([10_000.0] * 3)


def test_each_arm_is_compared_at_its_own_best_rate(tmp_path):
    study = a_study(seeds=(0, 1), rates=(1e-3, 3e-3), rate_seeds=(7,))
    found = collect(study, tmp_path)
    assert len(found.sweep) == 8 and found.cells[0].arms[0].rate == BASE.optim.lr
    for arm, best in (("n = 1", 1e-3), ("n = 2, trunk", 3e-3)):
        for rate in study.rates:
            store(tmp_path, at_seed(study.cells[0].configs[arm], 7, rate), 10.0 if rate == best else None)
    rates = {arm.label: arm.rate for arm in collect(study, tmp_path).cells[0].arms}
    assert rates["n = 1"] == 1e-3 and rates["n = 2, trunk"] == 3e-3


def test_final_scores_are_compared_as_differences(tmp_path):
    study = a_study(endpoint="final", seeds=tuple(range(8)))
    fill(study, tmp_path, lambda arm, seed: 10.0 + seed if "layers" in arm or "trunk" in arm else None)
    cell = collect(study, tmp_path).cells[0]
    assert cell.findings["n = 2, layers"].effect.kind == "difference" and cell.verdict.word == "helps"
