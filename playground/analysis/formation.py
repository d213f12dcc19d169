"""Formation times: when heads, composition and accuracy formed in a run, in which order, and differences between groups of
runs.

Everything is read from probe results stored along training, on the rows of the task. Each kind of head is represented by the
strongest one: the previous-token head is chosen in the trunk, where an induction head can read its output, and each induction
head among those that its offset depends on. K-composition is that of two heads: the receiver is the strongest induction head,
the sender the strongest previous-token head BEFORE it, chosen by its attention score and not by its composition. Each quantity
is timed in two ways:

- t50 and t90: half and nine tenths of the way from chance (the null band) to the ceiling (the ideal head), crossed for good;
- half of final: half of the way from its own first to its own last value. The order of events uses this time, because
  composition has no ceiling, and because several heads of a small model share the work of one ideal head.

Between two measured steps a quantity is interpolated linearly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from playground.analysis.statistics import crossing, median_interval, ratio_interval
from playground.commands import run_line
from playground.config import future_head_paths
from playground.results import (
    AttentionScores,
    Behaviour,
    Composition,
    Event,
    Formation,
    Head,
    History,
    Row,
    ScoreInfo,
    used_by,
)
from playground.results.base import Paths
from playground.runs.store import Run

FORMED = 0.1
"""A quantity has formed if its last value is at least this share of the way from chance to its ceiling; else `half` is None."""
ORDER = ("previous token", "K-composition", "induction", "accuracy")
"""The expected order of events (Olsson et al. 2022)."""


@dataclass(frozen=True, kw_only=True)
class Histories:
    """The probe results of a run that formation times are computed from."""

    attention: History[AttentionScores]
    composition: History[Composition]
    behaviour: History[Behaviour]


def histories(run: Run) -> Histories:
    """Read the three histories of a run. Raises ValueError if it has no attention scores on its task's rows."""
    attention = run.history("task_attention", AttentionScores)
    if not attention.steps:
        probes = "task_attention composition behaviour"
        raise ValueError(
            f"run {run.id} has no stored probe 'task_attention'; train with --probes {probes}, or measure its checkpoints: "
            f"{run_line('probe', run.path, options=f'--probe {probes} --step all')}"
        )
    return Histories(
        attention=attention,
        composition=run.history("composition", Composition),
        behaviour=run.history("behaviour", Behaviour),
    )


def formation(run: Run) -> Formation:
    """The events of one run, finished or not. Raises ValueError if the run has no attention scores on its task's rows."""
    found, n_future = histories(run), run.record.n_future
    paths = future_head_paths(run.record.future_heads, n_future)
    ahead = {ahead_name(k): score_name(k) for k in range(1, n_future + 1)}
    heads = {
        name: [_head_event(found.attention, name, score, head) for head in found.attention.results[-1].heads]
        for name, score in ({"previous token": "previous_token"} | ahead).items()
    }
    induction = [_strongest(_used_by(heads[ahead_name(k)], k, paths)) for k in range(1, n_future + 1)]
    main = [_strongest(_of_trunk(heads["previous token"]))]
    if found.composition.steps:
        main.append(
            _composition_event(found.composition, heads["previous token"], Head.parse(induction[0].subject), paths)
        )
    main += induction + _accuracy_events(found.behaviour, run.record.scores, n_future)
    return Formation(
        run=run.id,
        n_future=n_future,
        seed=run.record.seed,
        main=tuple(main),
        heads=tuple(event for events in heads.values() for event in events),
    )


def ahead_name(k: int) -> str:
    """Name of the k-ahead event: `induction` for k = 1, else `2-ahead induction`, .."""
    return "induction" if k == 1 else f"{k}-ahead induction"


def score_name(k: int) -> str:
    """Name of the k-ahead score in `AttentionScores.score`."""
    return "prefix_matching" if k == 1 else f"ahead_{k}"


def event_order(formations: Sequence[Formation], names: Sequence[str] = ORDER) -> list[Row]:
    """For each event and its successor in `names`: number of runs in which the first came before, with, or after the second.

    An event that was not reached comes after one that was; runs in which neither was reached are not counted.
    """
    rows: list[Row] = []
    for first, second in zip(names, names[1:], strict=False):
        pairs = [(formation.event(first), formation.event(second)) for formation in formations]
        times = [(_time(a.half), _time(b.half)) for a, b in pairs if a is not None and b is not None]
        times = [(a, b) for a, b in times if np.isfinite(min(a, b))]
        rows.append(
            {
                "first": first,
                "second": second,
                "before": sum(a < b for a, b in times),
                "together": sum(a == b for a, b in times),
                "after": sum(a > b for a, b in times),
                "runs": len(times),
            }
        )
    return rows


def compare_formation(groups: Mapping[str, Sequence[Formation]], baseline: str | None = None) -> list[Row]:
    """Median time of every main event in each group of runs, with its 95% interval over seeds, and its ratio to `baseline`.

    `baseline` is the first group by default. `ratio` is the median, over the seeds that both groups have, of the group's time
    over the baseline's (below 1: earlier). A time that was not reached counts as later than all others. None stands for a
    median or bound beyond the end of the runs, and for the bounds of fewer than six seeds. Raises ValueError for an unknown
    baseline.
    """
    rows: list[Row] = []
    baseline = next(iter(groups), "") if baseline is None else baseline
    if baseline not in groups:
        raise ValueError(f"there is no group '{baseline}' to compare with; there are: {', '.join(groups) or 'none'}")
    for name in dict.fromkeys(event.name for runs in groups.values() for run in runs for event in run.main):
        base = _times(groups[baseline], name)
        for label, runs in groups.items():
            times = _times(runs, name)
            if not times:
                continue
            median, low, high = median_interval(np.array(list(times.values())))
            pairs = [] if label == baseline else sorted(times.keys() & base.keys())
            ratio = ratio_interval(np.array([times[seed] for seed in pairs]), np.array([base[seed] for seed in pairs]))
            rows.append(
                {
                    "event": name,
                    "group": label,
                    "runs": len(times),
                    "not reached": int(np.isinf(list(times.values())).sum()),
                    "median tokens": _finite(median),
                    "low": _finite(low),
                    "high": _finite(high),
                    "pairs": len(pairs),
                    f"ratio to {baseline}": _finite(ratio[0]),
                    "ratio low": _finite(ratio[1]),
                    "ratio high": _finite(ratio[2]),
                }
            )
    return rows


def _times(runs: Iterable[Formation], name: str) -> dict[int, float]:
    """Times of one event by seed; where a seed occurs twice, the later run replaces the earlier one."""
    events = ((run.seed, run.event(name)) for run in runs)
    return {seed: _time(event.half) for seed, event in events if event is not None}


def _time(tokens: int | None) -> float:
    return float("inf") if tokens is None else float(tokens)


def _finite(value: float) -> float | None:
    """None for a value beyond the end of the runs: an infinite time, or a ratio to one, which is 0."""
    return value if 0 < value < np.inf else None


def _used_by(events: Sequence[Event], k: int, paths: Paths) -> list[Event]:
    """The events of heads that offset k depends on: those of the trunk and of the future heads on its path."""
    heads = set(used_by([Head.parse(event.subject) for event in events], k, paths))
    return [event for event in events if Head.parse(event.subject) in heads]


def _of_trunk(events: Sequence[Event]) -> list[Event]:
    """The events of trunk heads; all events if the trunk has no layers."""
    return [event for event in events if event.subject.startswith("blocks.")] or list(events)


def _strongest(events: Sequence[Event]) -> Event:
    return max(events, key=lambda event: np.nan_to_num(event.final, nan=-1.0))


def _head_event(history: History[AttentionScores], name: str, score: str, head: Head) -> Event:
    index = history.results[-1].heads.index(head)
    values = [float(result.score(score).ravel()[index]) for result in history.results]
    null = float(history.results[-1].null(score).ravel()[index])
    return _event(name, str(head), history.tokens, values, null, history.results[-1].ideal)


def _composition_event(history: History[Composition], previous: Sequence[Event], receiver: Head, paths: Paths) -> Event:
    """K-composition into one head, from the earlier sender with the largest previous-token score at the end of training."""
    last = history.results[-1]
    before = [head for head in last.senders if receiver.comes_after(head, paths)]
    events = [event for event in previous if Head.parse(event.subject) in before]
    if not events:
        nothing = [float("nan")] * len(history.steps)
        return _event(
            "K-composition", f"nothing before {receiver}", history.tokens, nothing, float("nan"), float("nan")
        )
    sender = Head.parse(_strongest(events).subject)
    values = [result.pair("k", sender, receiver) for result in history.results]
    null = float(last.band("k")[last.senders.index(sender), last.receivers.index(receiver)])
    return _event("K-composition", f"{sender} -> {receiver}", history.tokens, values, null, float("nan"))


def _accuracy_events(history: History[Behaviour], scores: Sequence[ScoreInfo], n_future: int) -> list[Event]:
    """Events of the accuracy of every offset on the scored tokens of the probe rows.

    Chance is that of the task's accuracy at this offset, else that of its headline score if that is an accuracy, else 0.
    """
    known = {info.name: info.chance for info in scores if "accuracy" in info.name}
    headline = scores[0].name if scores else ""
    events: list[Event] = []
    for k in range(1, n_future + 1):
        values = [float(result.accuracy[k - 1]) for result in history.results]
        if np.isfinite(values).any():
            chance = known.get(headline if k == 1 else f"{headline}_offset_{k}", known.get(headline, 0.0))
            name = "accuracy" if k == 1 else f"accuracy of offset {k}"
            events.append(_event(name, "scored tokens", history.tokens, values, chance, 1.0))
    return events


def _event(
    name: str, subject: str, tokens: Sequence[int], values: Sequence[float], null: float, ceiling: float
) -> Event:
    def reached(chance: float, goal: float, share: float) -> int | None:
        at = crossing(tokens, values, chance, goal, share) if np.isfinite(goal) else None
        return None if at is None else round(at)

    final, start = values[-1], values[0]
    least = null + FORMED * (ceiling - null) if np.isfinite(ceiling) else null
    return Event(
        name=name,
        subject=subject,
        start=start,
        null=null,
        ceiling=ceiling,
        final=final,
        seen=int(tokens[-1]),
        half=reached(start, final, 0.5) if final > max(least, start) else None,
        t50=reached(null, ceiling, 0.5),
        t90=reached(null, ceiling, 0.9),
    )
