"""Which head K-composition is timed from, on curves whose crossings are known, and against which band."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from playground.analysis.formation import formation
from playground.results import Composition, Head, History, Result
from tests.analysis.test_formation import INDUCTION, PREVIOUS, FakeRun, olsson, ramp


@dataclass(kw_only=True)
class Rotated(FakeRun):
    """The same with the composition given."""

    rotated: History[Composition]

    def history(self, probe: str, result: type[Result]) -> History[Any]:
        return self.rotated if probe == "composition" else super().history(probe, result)


def test_the_sender_of_composition_is_the_strongest_previous_token_head_and_not_the_one_with_most_composition():
    most = {(PREVIOUS, INDUCTION): ramp(300, 500, 0.0, 0.2), (Head("blocks.0", 0), INDUCTION): ramp(0, 100, 0.0, 0.6)}
    event = formation(olsson(composition=most)).event("K-composition")
    assert (event.subject, event.half, event.final) == ("blocks.0.1 -> future_heads.0.0", 400, 0.2)


def test_the_sender_lies_before_the_receiver():
    """The strongest previous-token head of all is in the receiver's own layer, and cannot be read there."""
    receiver, earlier = Head("blocks.1", 0), Head("blocks.0", 0)
    scores = {
        ("back_1", Head("blocks.1", 1)): ramp(200, 400),
        ("back_1", earlier): ramp(200, 400, 0.05, 0.5),
        ("ahead_1", receiver): ramp(500, 700),
    }
    composition = {(earlier, receiver): ramp(300, 500, 0.0, 0.2), (PREVIOUS, receiver): ramp(300, 500, 0.0, 0.4)}
    found = formation(olsson(n_trunk=2, scores=scores, composition=composition))
    assert found.event("previous token").subject == "blocks.1.1"
    assert found.event("K-composition").subject == "blocks.0.0 -> blocks.1.0"


def test_the_band_of_composition_is_that_of_the_pair():
    run = olsson()
    history = run.history("composition", Composition)
    bands = np.array([[0.03] * 4, [0.25] * 4])
    results = tuple(dataclasses.replace(found, null=None, null_qk=bands, null_v=bands) for found in history.results)
    rotated = dataclasses.replace(history, results=results)
    found = formation(Rotated(**vars(run), rotated=rotated)).event("K-composition")
    assert (found.null, found.half) == (0.25, None)  # 0.2 in the end, which chance reaches
