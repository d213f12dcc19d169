"""What a comparison over n rests on: controls, and learning rates."""

import dataclasses

import pytest

from playground.config import RunConfig
from playground.experiments.claims import best_rates, control_notes, rate_note, several_rates
from playground.experiments.compare import compare_run
from playground.experiments.groups import Group, experiment_of
from playground.experiments.presets import make_config
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
    """Rows of a fake run, with what the case says."""
    row = compare_run(load_run(write_run(tmp_path, steps=40)))

    def make(**cases: tuple) -> dict:
        return {
            run: dataclasses.replace(row, run=run, t50_tokens=t50, measured_tokens=100, score=score)
            for run, (t50, score) in cases.items()
        }

    return lambda cases: make(**{str(place): case for place, case in enumerate(cases)})


RATES = (config(1, 0.001), config(1, 0.002), config(1, 0.002, seed=1), config(2, 0.001), config(2, 0.002))


@pytest.mark.parametrize(("cases", "kept"), [
    ([(50, 0.9), (40, 0.8), (45, 0.8), (30, 0.5), (20, 0.4)], {"1", "2", "4"}),
    ([(50, 0.9), (40, 0.8), (None, 0.8), (30, 0.5), (None, 0.9)], {"0", "3"}),
    ([(None, 0.1), (None, 0.3), (None, 0.0), (None, 0.5), (None, 0.5)], {"1", "2", "3"}),
    ([(None, None), (None, 0.1), (None, 0.1), (None, None), (None, 0.0)], {"1", "2", "4"}),
])  # fmt: skip
def test_the_best_rate_is_the_earliest_then_that_of_the_best_score(rows, cases, kept):
    assert best_rates(experiments(*RATES), rows(cases)) == kept


def test_a_score_that_falls_is_better_when_lower(rows):
    found = {
        run: dataclasses.replace(row, higher_is_better=False) for run, row in rows([(None, 2.0), (None, 1.0)]).items()
    }
    assert best_rates(experiments(*RATES[:2]), found) == {"1"}


def test_models_of_one_rate_are_all_kept_and_other_settings_are_other_models(rows):
    found = rows([(50, 0.9), (40, 0.9)])
    assert best_rates(experiments(config(1, 0.001), config(1, 0.002, d_model=32)), found) == {"0", "1"}
    assert best_rates(experiments(config(2, 0.001), config(2, 0.002, control="trunk")), found) == {"0", "1"}
    assert best_rates(experiments(config(1, 0.001), config(1, 0.002, control="trunk")), found) == {
        "1"
    }  # n = 1 is one model
