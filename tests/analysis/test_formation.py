"""When things formed, on curves whose crossings are known: order, censoring, offsets, and groups of runs against another."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.analysis.formation import compare_formation, event_order, formation
from playground.results import (
    AttentionScores,
    Behaviour,
    Composition,
    Event,
    Formation,
    Head,
    History,
    Result,
    ScoreInfo,
    heads_of,
)
from playground.runs.probes import store_result
from playground.runs.record import RunRecord
from playground.runs.resumption import set_lines_aside
from playground.runs.store import Run, load_run
from tests.fake_runs import settle, write_run
from tests.ui.support import change_json

TOKENS = tuple(range(0, 1001, 50))
PREVIOUS, INDUCTION = Head("blocks.0", 1), Head("future_heads.0", 0)
Curve = Callable[[float], float]
NAN = float("nan")


def ramp(begin: float, end: float, low: float = 0.05, high: float = 0.95) -> Curve:
    """Straight from `low` to `high` between two token counts: half of the way in the middle of them."""
    return lambda tokens: float(np.interp(tokens, [begin, end], [low, high]))


def flat(value: float = 0.05) -> Curve:
    return lambda tokens: value


@dataclass(kw_only=True)
class FakeRun(Run):
    """A run with known curves: scores by name and head, composition by sender and receiver, accuracy by offset."""

    id: str = "a-run"  # type: ignore
    n_future: int = 1
    n_trunk: int = 1
    seed: int = 0
    tokens: tuple[int, ...] = TOKENS
    scores: dict[tuple[str, Head], Curve] = field(default_factory=dict)
    composition: dict[tuple[Head, Head], Curve] | None = None
    accuracy: tuple[Curve, ...] | None = None
    infos: tuple[ScoreInfo, ...] = ()

    @property
    def path(self) -> Path:
        return Path("runs") / self.id

    @property
    def record(self) -> RunRecord:
        return RunRecord(
            run=self.id, status="finished", task="induction", preset=None, n_future=self.n_future, control="layers",
            seed=self.seed, config_hash="", steps=100, scores=self.infos,
        )  # fmt: skip

    @property
    def layers(self) -> tuple[str, ...]:
        trunk = [f"blocks.{i}" for i in range(self.n_trunk)]
        return (*trunk, *(f"future_heads.{i}" for i in range(self.n_future)))

    def history(self, probe: str, result: type[Result]) -> History[Any]:
        make = {"task_attention": self._attention, "composition": self._composition, "behaviour": self._behaviour}[
            probe
        ]
        results = tuple(found for tokens in self.tokens if (found := make(tokens)) is not None)
        tokens = self.tokens if results else ()
        return History(steps=tuple(t // 50 for t in tokens), tokens=tokens, results=results)

    def _attention(self, tokens: int) -> AttentionScores | None:
        if not self.scores:
            return None
        shape = (4, len(self.layers), 2)
        values = {kind: np.full(shape, 0.05) for kind in ("back", "ahead")}
        for (name, head), curve in self.scores.items():
            kind, k = name.split("_")
            values[kind][int(k) - 1, self.layers.index(head.layer), head.index] = curve(tokens)
        return AttentionScores(
            layers=self.layers, rows_from="task", **values, duplicate_token=np.zeros(shape[1:]),
            null_back=np.full(shape, 0.1), null_ahead=np.full(shape, 0.1), null_duplicate_token=np.full(shape[1:], 0.1),
        )  # fmt: skip

    def _composition(self, tokens: int) -> Composition | None:
        if self.composition is None:
            return None
        senders = heads_of(self.layers[: self.n_trunk], 2)
        receivers = heads_of(self.layers, 2)
        k = np.zeros((len(senders), len(receivers)))
        for i, sender in enumerate(senders):
            k[i, [not receiver.comes_after(sender) for receiver in receivers]] = NAN
        for (sender, receiver), curve in self.composition.items():
            k[senders.index(sender), receivers.index(receiver)] = curve(tokens)
        return Composition(
            senders=senders, receivers=receivers, q=0 * k, k=k, v=0 * k, random=(0.1,) * 3, null=(0.02,) * 3
        )

    def _behaviour(self, tokens: int) -> Behaviour | None:
        if self.accuracy is None:
            return None
        accuracy = np.array([curve(tokens) for curve in self.accuracy])
        none = np.zeros(len(accuracy))
        return Behaviour(loss=none, score_loss=none, accuracy=accuracy, early=(1, 2), late=(3, 4), in_context=none)


def olsson(**changes: Any) -> FakeRun:
    """A run in which everything forms in the expected order: half way at 300, 400, 600 and 750 tokens."""
    values: dict[str, Any] = {
        "scores": {("back_1", PREVIOUS): ramp(200, 400), ("ahead_1", INDUCTION): ramp(500, 700)},
        "composition": {(PREVIOUS, INDUCTION): ramp(300, 500, 0.0, 0.2), (Head("blocks.0", 0), INDUCTION): flat(0.03)},
        "accuracy": (ramp(600, 900, 0.1, 1.0),),
    }
    return FakeRun(**(values | changes))


def _halves(found: Formation) -> dict[str, int | None]:
    return {event.name: event.half for event in found.main}


def test_known_crossings_in_the_expected_order():
    found = formation(olsson())
    assert _halves(found) == {"previous token": 300, "K-composition": 400, "induction": 600, "accuracy": 750}
    assert [event.subject for event in found.main] == [
        "blocks.0.1", "blocks.0.1 -> future_heads.0.0", "future_heads.0.0", "scored tokens"]  # fmt: skip
    previous, composition, induction, accuracy = found.main
    assert (previous.start, previous.final) == (0.05, 0.95)
    assert (previous.null, previous.ceiling, previous.seen) == (0.1, 1.0, 1000)
    # t50 of a score: 0.1 + 0.9 / 2 = 0.55, on a line of 0.9 in 200 tokens; t90: 0.91
    assert (induction.t50, induction.t90) == (round(500 + 0.5 / 0.9 * 200), round(500 + 0.86 / 0.9 * 200))
    assert (composition.t50, composition.t90, composition.null) == (None, None, 0.02) and np.isnan(composition.ceiling)
    assert (accuracy.t50, accuracy.t90) == (round(600 + 0.4 / 0.9 * 300), round(600 + 0.8 / 0.9 * 300))
    assert len(found.heads) == 2 * 2 * 2 and {event.name for event in found.heads} == {"previous token", "induction"}
    assert (found.run, found.n_future, found.seed) == ("a-run", 1, 0)
    assert Formation.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))).main[2] == induction


def test_what_never_gets_above_chance_has_no_time_but_is_there():
    found = formation(olsson(scores={("back_1", PREVIOUS): ramp(200, 400, 0.05, 0.09)}, accuracy=(flat(0.1),)))
    by_name = {event.name: event for event in found.main}
    for name in ("previous token", "induction", "accuracy"):
        event = by_name[name]
        assert (event.half, event.t50, event.t90, event.seen) == (None, None, None, 1000)
    assert by_name["previous token"].final == 0.09


def test_what_falls_back_counts_from_when_it_stays():
    def curve(tokens: float) -> float:
        return 0.1 if 500 <= tokens < 700 else ramp(200, 400)(tokens)

    found = formation(olsson(scores={("back_1", PREVIOUS): curve, ("ahead_1", INDUCTION): flat()}))
    half = found.main[0].half
    assert half is not None and 650 < half <= 700


def test_half_of_a_small_final_value_is_not_half_of_the_ideal():
    found = formation(olsson(scores={("back_1", PREVIOUS): ramp(200, 400, 0.05, 0.4), ("ahead_1", INDUCTION): flat()}))
    assert (found.main[0].half, found.main[0].t50) == (300, None)


def test_a_run_that_was_cut_short_is_censored():
    whole, cut = (formation(olsson(tokens=tokens)) for tokens in (TOKENS, tuple(t for t in TOKENS if t <= 550)))
    assert _halves(whole)["accuracy"] == 750
    assert _halves(cut) == {"previous token": 300, "K-composition": 400, "induction": 525, "accuracy": None}
    assert {event.seen for event in cut.main} == {550}
    assert cut.event("induction").t50 is None and whole.event("induction").t50 is not None


def test_a_previous_token_head_stands_in_the_trunk_where_something_can_read_it():
    scores = olsson().scores | {("back_1", Head("future_heads.0", 1)): ramp(0, 100, 0.0, 1.0)}
    found = formation(olsson(scores=scores))
    assert (found.main[0].subject, found.main[0].half) == ("blocks.0.1", 300)
    assert any(event.subject == "future_heads.0.1" and event.half == 50 for event in found.heads)


def test_without_composition_or_behaviour_there_are_fewer_events():
    found = formation(olsson(composition=None, accuracy=None))
    assert _halves(found) == {"previous token": 300, "induction": 600}


def test_an_induction_head_in_the_first_layer_reads_nothing():
    scores = {("back_1", PREVIOUS): ramp(200, 400), ("ahead_1", Head("blocks.0", 0)): ramp(500, 700)}
    event = formation(olsson(scores=scores, composition={})).main[1]
    assert (event.name, event.subject) == ("K-composition", "nothing before blocks.0.0")
    assert event.half is None and np.isnan(event.final)


def test_a_trunk_without_layers_has_events_too(tmp_path):
    run = olsson(n_trunk=0, scores={("ahead_1", INDUCTION): ramp(500, 700)}, composition={})
    found = formation(run)
    assert found.event("K-composition").subject == "nothing before future_heads.0.0"
    assert found.event("previous token").subject.startswith("future_heads.0.")
    path = _stored(tmp_path, run)
    assert _halves(formation(load_run(path)))["induction"] == 600  # also when read from lines


def test_scores_on_rows_of_the_task_are_needed():
    with pytest.raises(
        ValueError, match=r"run a-run has no stored probe 'task_attention'; train with --probes .*--step all"
    ):
        formation(olsson(scores={}))


def test_a_value_that_was_not_measured_is_left_out():
    def curve(tokens: float) -> float:
        return NAN if tokens == 300 else ramp(200, 400)(tokens)

    assert formation(olsson(scores={("back_1", PREVIOUS): curve})).main[0].half == 300
    none = formation(olsson(accuracy=(flat(NAN),)))
    assert none.event("accuracy") is None


# --- several offsets ------------------------------------------------------------------------------------------------

TWO = {
    ("back_1", PREVIOUS): ramp(200, 400), ("ahead_1", INDUCTION): ramp(500, 700, 0.05, 0.6),
    ("ahead_1", Head("future_heads.1", 1)): ramp(0, 100, 0.05, 0.99),
    ("ahead_2", Head("future_heads.1", 0)): ramp(300, 900), ("ahead_2", INDUCTION): ramp(0, 100, 0.05, 0.99),
}  # fmt: skip


def test_every_offset_has_events_of_heads_that_it_uses():
    """Future head 2 is no part of offset 1, whatever its heads attend to, and the other way round."""
    composition = {(PREVIOUS, INDUCTION): ramp(300, 500, 0.0, 0.2)}
    run = olsson(n_future=2, scores=TWO, composition=composition, accuracy=(ramp(600, 900, 0, 1), ramp(700, 900, 0, 1)))
    found = formation(run)
    assert _halves(found) == {
        "previous token": 300, "K-composition": 400, "induction": 600, "2-ahead induction": 600, "accuracy": 750,
        "accuracy of offset 2": 800,
    }  # fmt: skip
    assert found.event("induction").subject == "future_heads.0.0"
    assert found.event("K-composition").subject == "blocks.0.1 -> future_heads.0.0"
    assert found.event("2-ahead induction").subject == "future_heads.1.0"
    assert len(found.heads) == 3 * 2 * 3


@pytest.mark.parametrize(("names", "chances"), [
    (("repeat_accuracy", "repeat_loss", "repeat_accuracy_offset_2"), (0.1, 0.3)), (("repeat_accuracy",), (0.1, 0.1)),
    (("bits_per_byte",), (0.0, 0.0)), ((), (0.0, 0.0)),
])  # fmt: skip
def test_chance_is_the_tasks(names, chances):
    infos = tuple(
        ScoreInfo(name=name, chance=0.1 + 0.1 * i, ceiling=1.0, unit="", higher_is_better=True)
        for i, name in enumerate(names)
    )
    run = olsson(n_future=2, accuracy=(ramp(0, 1000, 0, 1), ramp(0, 1000, 0, 1)), infos=infos)
    events = [formation(run).event(name) for name in ("accuracy", "accuracy of offset 2")]
    assert tuple(event.null for event in events) == pytest.approx(chances)
    assert [event.t50 for event in events] == [round(1000 * (chance + 1) / 2) for chance in chances]


# --- stored and resumed ---------------------------------------------------------------------------------------------


def _stored(folder, run: FakeRun):
    """The same histories as lines in the folder of a run."""
    path = write_run(folder, steps=20, n_future=run.n_future)
    model = {"n_layers": run.n_trunk + 1, "n_heads": 2, "d_model": 64, "n_future": run.n_future, "control": "trunk"}
    change_json(path / "config.json", model=model)
    settle(path)
    shutil.rmtree(path / "probes")
    _append(path, run)
    return path


def _append(path, run: FakeRun, after: int = -1) -> None:
    for name in ("task_attention", "composition", "behaviour"):
        found = run.history(name, Result)
        for step, tokens, result in zip(found.steps, found.tokens, found.results, strict=True):
            if step > after:
                store_result(path, name, result, step=step, tokens=tokens)


def test_a_stored_run_has_the_same_events(tmp_path):
    path = _stored(tmp_path, olsson())
    found = formation(load_run(path))
    assert _halves(found) == _halves(formation(olsson())) and found.run == path.name
    assert found.event("accuracy").null == pytest.approx(0.05)  # of the task's headline score


def test_a_resumed_run_has_the_same_events(tmp_path):
    path, run = _stored(tmp_path, olsson()), olsson()
    before = formation(load_run(path))
    set_lines_aside(path, 7)
    middle = formation(load_run(path))
    assert {event.seen for event in middle.main} == {350} and _halves(middle)["induction"] is None
    _append(path, run, after=7)
    assert formation(load_run(path)).to_dict() == before.to_dict()


# --- several runs ---------------------------------------------------------------------------------------------------


def _formation(seed: int = 0, n_future: int = 1, **halves: int | None) -> Formation:
    """A run with these events, by name with `_` for a blank."""
    events = [
        Event(name=name.replace("_", " "), subject="", start=0.0, null=0.1, ceiling=1.0, final=1.0, half=half, t50=None,
              t90=None, seen=1000)
        for name, half in halves.items()
    ]  # fmt: skip
    return Formation(run=f"run-{seed}", n_future=n_future, seed=seed, main=tuple(events), heads=())


def test_order_counts_runs():
    runs = [
        _formation(previous_token=100, induction=200, accuracy=300),
        _formation(previous_token=100, induction=100, accuracy=50),
        _formation(previous_token=None, induction=100, accuracy=None),
        _formation(previous_token=None, induction=None, accuracy=900),
        _formation(previous_token=100, accuracy=900),
    ]
    first, second = event_order(runs, ("previous token", "induction", "accuracy"))
    assert first == {
        "first": "previous token",
        "second": "induction",
        "before": 1,
        "together": 1,
        "after": 1,
        "runs": 3,
    }
    assert second == {"first": "induction", "second": "accuracy", "before": 2, "together": 0, "after": 2, "runs": 4}
    expected = event_order([formation(olsson())] * 3)
    assert [row["before"] for row in expected] == [3, 3, 3]
    assert all(list(row) == list(first) for row in expected)


def _compared(groups: dict[str, list[Formation]], baseline: str | None = None) -> list[dict[str, Any]]:
    return [dict(row) for row in compare_formation(groups, baseline)]


def test_groups_are_compared_by_medians_with_not_reached_as_the_latest():
    groups = {
        "n = 1": [_formation(seed, induction=half) for seed, half in enumerate((100, 110, 120, 130, 140, None))],
        "n = 2": [_formation(seed, induction=half, accuracy_of_offset_2=500)
                  for seed, half in enumerate((200, 220, 240, 260, 280, 300, 320), start=-1)],
        "n = 4": [_formation(seed, induction=None) for seed in range(3)],
    }  # fmt: skip
    rows = {(row["event"], row["group"]): row for row in _compared(groups)}
    assert list(rows) == [
        ("induction", "n = 1"), ("induction", "n = 2"), ("induction", "n = 4"), ("accuracy of offset 2", "n = 2")]  # fmt: skip
    assert all(list(row) == list(rows["induction", "n = 1"]) for row in rows.values())
    base, two, four = (rows["induction", group] for group in groups)
    assert (base["runs"], base["not reached"], base["median tokens"]) == (6, 1, 125)
    assert (base["low"], base["high"]) == (100, None)  # the upper bound lies beyond the end of the runs
    assert base["ratio to n = 1"] is base["ratio low"] is base["ratio high"] is None
    assert (two["median tokens"], two["low"], two["high"], two["pairs"]) == (260, 200, 320, 6)
    assert two["ratio to n = 1"] == pytest.approx((280 / 130 + 260 / 120) / 2)  # the middle two of the six pairs
    assert (two["ratio low"], two["ratio high"]) == (None, 220 / 100)  # the last pair's baseline never got there
    assert four["low"] is four["high"] is None and four["pairs"] == 3  # too few seeds
    assert (four["not reached"], four["median tokens"], four["ratio to n = 1"]) == (3, None, None)
    assert rows["accuracy of offset 2", "n = 2"]["ratio to n = 1"] is None


def test_a_ratio_has_an_interval_that_holds_it():
    random = np.random.default_rng(0)
    groups = {
        str(factor): [_formation(seed, induction=round(factor * 1000 * random.lognormal(0, 0.1))) for seed in range(8)]
        for factor in (1, 3)
    }
    row = _compared(groups)[1]
    assert 2.2 < row["ratio low"] < row["ratio to 1"] < row["ratio high"] < 3.7
    (same,) = (row for row in _compared(groups, baseline="3") if row["group"] == "1")
    assert same["ratio to 3"] == pytest.approx(1 / row["ratio to 1"], rel=0.02)


def test_a_single_run_has_no_interval_and_a_baseline_that_never_got_there_no_ratio():
    groups = {"a": [_formation(induction=None)], "b": [_formation(induction=100)]}
    a, b = _compared(groups)
    assert (a["median tokens"], b["median tokens"]) == (None, 100)
    assert b["low"] is b["high"] is b["ratio to a"] is b["ratio low"] is None


@pytest.mark.parametrize(("groups", "baseline", "message"), [
    ({"a": []}, "b", "there is no group 'b' to compare with; there are: a"), ({}, None, "there are: none"),
])  # fmt: skip
def test_a_baseline_that_is_no_group_is_refused(groups, baseline, message):
    with pytest.raises(ValueError, match=message):
        compare_formation(groups, baseline)


def test_events_are_found_by_name():
    found = formation(olsson())
    assert found.event("induction") is found.main[2] and found.event("2-ahead induction") is None
    shown = [row["of"] for row in dataclasses.replace(found, main=()).rows()]
    assert shown == ["blocks.0.1", "future_heads.0.0"]  # out of all heads those that got half way
