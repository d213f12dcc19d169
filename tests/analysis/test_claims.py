"""What a comparison over n rests on: controls, and learning rates."""

import dataclasses

import pytest

from playground.analysis.claims import best_rate_note, best_rates, control_notes, rate_note, several_rates
from playground.analysis.compare import compare_run
from playground.analysis.groups import Group, experiment_of
from playground.config import RunConfig
from playground.running.presets import make_config
from playground.runs.store import load_run
from tests.fake_runs import write_run


def notes(*controls: str, n_future: int = 2) -> str:
    groups = [Group(label="", n_future=n_future, control=control) for control in controls]
    return " ".join(control_notes([Group(label="", n_future=1, control="layers"), *groups]))


@pytest.mark.parametrize("control", ["layers", "trunk", "flops", "detached"])
def test_under_one_control_nothing_is_said_to_be_the_losss_doing(control):
    found = notes(control)
    assert found.startswith(f"n = 2 was trained under one control, {control}.") and "loss" not in found
    missing = [name for name in ("layers", "trunk", "detached") if name != control]
    assert all(name in found.partition("train it under")[2] for name in missing)


def test_under_several_controls_what_is_missing_is_named_and_under_all_the_rule_is_told():
    assert notes("layers", "trunk").endswith("is called an effect of the loss, train it under detached too.")
    assert "train it under trunk too" in notes("layers", "detached", "layers")
    whole = notes("layers", "trunk", "detached", "flops")
    assert "where layers and trunk show the same, and detached shows none" in whole and "train it" not in whole
    assert notes() == notes("layers", n_future=1) == ""


def test_each_n_has_its_sentence():
    groups = [
        Group(label="", n_future=n, control=control) for n, control in ((4, "trunk"), (2, "layers"), (2, "trunk"))
    ]
    first, second = control_notes(groups)
    assert first.startswith("n = 2 was trained under layers and trunk.") and second.startswith(
        "n = 4 was trained under one"
    )


def config(n_future: int, rate: float, seed: int = 0, **model) -> RunConfig:
    made = make_config("induction-cpu", n_future=n_future, seed=seed)
    return dataclasses.replace(
        made, optim=dataclasses.replace(made.optim, lr=rate), model=dataclasses.replace(made.model, **model)
    )


def experiments(*configs: RunConfig) -> dict:
    return {str(place): experiment_of(each.to_dict()) for place, each in enumerate(configs)}


def test_a_shared_rate_is_said():
    one = experiments(config(1, 0.004), config(2, 0.004), config(2, 0.004, seed=1))
    assert rate_note(one).startswith("All models were trained at one learning rate, 0.004.") and not several_rates(one)
    each_its_own = experiments(config(1, 0.004), config(2, 0.002))
    assert rate_note(each_its_own) == "Models were trained at different learning rates: 0.002, 0.004."
    assert not several_rates(each_its_own)
    swept = experiments(config(1, 0.004), config(2, 0.004), config(2, 0.002))
    assert rate_note(swept) == "Models were trained at several learning rates: 0.002, 0.004." and several_rates(swept)
    assert rate_note(experiments(config(1, 0.004), config(1, 0.002))) == rate_note({}) == ""  # one model


@pytest.fixture
def rows(tmp_path):
    """Rows of a fake run, with what the case says of t50, score, seed and status."""
    row = compare_run(load_run(write_run(tmp_path, steps=40)))

    def make(*cases: tuple) -> dict:
        return {
            str(place): dataclasses.replace(
                row,
                run=str(place),
                t50_tokens=t50,
                measured_tokens=100,
                score=score,
                seed=seed,
                status=(*status, "finished")[0],
            )
            for place, (t50, score, seed, *status) in enumerate(cases)
        }

    return make


RATES = (config(1, 0.001), config(1, 0.001, seed=1), config(1, 0.002), config(1, 0.002, seed=1))
LOW, HIGH, ALL = {"0", "1"}, {"2", "3"}, {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("cases", "kept"),
    [
        ([(50, 0.9, 0), (60, 0.9, 1), (40, 0.8, 0), (45, 0.8, 1)], HIGH),  # earlier
        (
            [(50, 0.1, 0), (60, 0.1, 1), (40, 0.9, 0), (None, 0.9, 1)],
            LOW,
        ),  # one of two at the higher rate never got there
        ([(None, 0.25, 0), (None, 0.25, 1), (None, 0.5, 0), (None, 0.0, 1)], LOW),  # as good in the mean: the first
        ([(None, 0.1, 0), (None, 0.1, 1), (None, 0.3, 0), (None, 0.2, 1)], HIGH),
        ([(50, 0.1, 0), (60, 0.1, 1), (40, 0.9, 0, "failed"), (45, 0.9, 1)], LOW),  # a diverged seed is the worst
        ([(50, 0.1, 0), (60, 0.1, 1), (40, 0.9, 0), (1, 0.9, 1, "interrupted")], HIGH),  # on seed 0, which both have
        ([(50, 0.1, 0), (60, 0.1, 1), (40, 0.9, 2), (45, 0.9, 3)], ALL),  # no seed in common
        ([(50, 0.1, 0, "failed"), (60, 0.1, 1, "failed"), (40, 0.9, 0, "failed"), (45, 0.9, 1, "failed")], ALL),
        (
            [(50, 0.1, 0), (60, 0.1, 1), (1, 0.9, 0, "stopped"), (1, 0.9, 1, "running")],
            LOW,
        ),  # a rate that nothing is known of
        ([(None, None, 0), (None, None, 1), (None, 0.1, 0), (None, 0.1, 1)], HIGH),
    ],
)
def test_the_best_rate_is_the_earliest_then_that_of_the_best_score(rows, cases, kept):
    assert best_rates(experiments(*RATES), rows(*cases)) == kept


def test_a_score_that_falls_is_better_when_lower(rows):
    cases = rows((None, 2.0, 0), (None, 1.0, 0))
    found = {run: dataclasses.replace(row, higher_is_better=False) for run, row in cases.items()}
    assert best_rates(experiments(config(1, 0.001), config(1, 0.002)), found) == {"1"}


def test_models_of_one_rate_are_all_kept_and_other_settings_are_other_models(rows):
    found = rows((50, 0.9, 0), (40, 0.9, 0))
    assert best_rates(experiments(config(1, 0.001), config(1, 0.002, d_model=32)), found) == {"0", "1"}
    assert best_rates(experiments(config(2, 0.001), config(2, 0.002, control="trunk")), found) == {"0", "1"}
    assert best_rates(experiments(config(1, 0.001), config(1, 0.002, control="trunk")), found) == {
        "1"
    }  # n = 1 is one model


def test_what_was_chosen_from_what_is_said(rows):
    known = experiments(config(1, 0.001), config(1, 0.002), config(2, 0.001))
    kept = best_rates(known, rows((50, 0.9, 0), (40, 0.9, 0), (30, 0.9, 0)))
    note = best_rate_note(known, kept)
    assert note.endswith("n = 1: 0.002 of 0.001, 0.002; n = 2, layers: 0.001.") and "a claim needs" in note
