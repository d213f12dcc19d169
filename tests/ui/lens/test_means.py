"""The sentences and references beside the curves from layer to layer."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.figures.lens_curves import LensCurve
from playground.results import Lens, ScoreInfo
from playground.runs.store import read_store
from playground.ui.lens.means import chance_by_offset, sentence
from playground.ui.shared.two_runs import titles
from tests.fake_runs import write_run


def curve(accuracy: Any, loss: Any) -> LensCurve:
    values = {"accuracy": np.array(accuracy), "loss": np.array(loss)}
    sites = ("embed", *(f"blocks.{layer}" for layer in range(len(accuracy) - 1)))
    lens = Lens(sites=sites, direct_loss=values["loss"], direct_accuracy=values["accuracy"], **values)
    return LensCurve(title="n = 2", n_future=2, lens=lens)


def test_the_sentence_names_the_layer_from_which_each_offset_can_be_read() -> None:
    said = sentence(curve([[0.1, 0.2], [0.97, 0.3], [0.98, 0.8]], np.ones((3, 2))))
    assert said == (
        "**n = 2**: the next token is predicted with accuracy 0.98 after the whole trunk, and 90% of that can be read from "
        "trunk 0 on; the token 2 ahead is predicted with accuracy 0.80 after the whole trunk, and 90% of that can be read "
        "from trunk 1 on."
    )


def test_what_is_there_from_the_start_is_read_from_the_embedding() -> None:
    assert sentence(curve([[0.95], [1.0]], [[1.0], [1.0]])).endswith("90% of that can be read from the embedding on.")


@pytest.mark.parametrize("accuracy", [np.nan, 0.0])
def test_without_an_accuracy_the_loss_is_told(accuracy: float) -> None:
    assert sentence(curve([[accuracy], [accuracy]], [[9.126], [1.2]])) == (
        "**n = 2**: the next token goes from a loss of 9.13 after the embedding to 1.20 nats after the trunk."
    )


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("induction-cpu", {1: 0.05, 2: 0.05}),
        ("stories-cpu", {1: 0.42, 2: 0.42}),
        ("polynomial-cpu", {}),
        ("bytes-cpu", {}),
    ],
)
def test_chance_is_known_where_a_score_is_an_accuracy(runs: Path, preset: str, expected: dict[int, float]) -> None:
    write_run(runs, preset, n_future=2, steps=20)
    records = [run.record for run in read_store(runs, lenient=True).runs]
    assert chance_by_offset(records) == pytest.approx(expected)
    assert all(isinstance(score, ScoreInfo) for record in records for score in record.scores)


def test_of_two_accuracies_the_headline_has_the_chance(runs: Path) -> None:
    write_run(runs, "stories-cpu", n_future=1, steps=20)
    (record,) = (run.record for run in read_store(runs, lenient=True).runs)
    first = record.scores[0]
    other = dataclasses.replace(first, name="another_accuracy", chance=0.9)
    assert chance_by_offset([dataclasses.replace(record, scores=(first, other))]) == {1: first.chance}


@pytest.mark.parametrize(
    ("names", "steps", "ids", "expected"),
    [
        (["a"], [1000], ["x"], ["a, step 1,000"]),
        (["a", "b"], [5, 5], ["x", "y"], ["a, step 5", "b, step 5"]),
        (["a", "a"], [5, 10], ["x", "x"], ["a, step 5", "a, step 10"]),
        (["a", "a"], [5, 5], ["x", "y"], ["x, step 5", "y, step 5"]),
        (["a" * 41, "b" * 40], [5, 5], ["x", "y"], ["x, step 5", f"{'b' * 40}, step 5"]),
    ],
)
def test_models_are_told_apart(names: list[str], steps: list[int], ids: list[str], expected: list[str]) -> None:
    assert titles(names, steps, ids) == expected
