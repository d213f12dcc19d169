"""Conditions of a comparison over n: the controls and the learning rates under which the models were trained.

A difference from n = 1 may be caused by the loss of the further offsets, by a layer that they take from the trunk, or by
parameters that they add. Each control excludes one of these causes, and none excludes all. Needs no torch.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from playground.analysis.compare import Comparison
from playground.analysis.groups import Experiment, Group, group_experiments
from playground.figures.crossing import Crossing, median_bounds

ALONE = {
    "layers": "the path to the next token also has n - 1 layers less",
    "trunk": "it also has more parameters",
    "flops": "it also has more parameters and took fewer steps",
    "detached": "its trunk learns from the next token alone, and its final norm and unembedding from all offsets",
}
"""What else distinguishes a model from n = 1, by its control."""
NEEDED = ("layers", "trunk", "detached")
"""The controls that a claim about the loss needs: `layers` and `trunk` must agree, and `detached` must equal n = 1."""


def control_notes(groups: Iterable[Group]) -> list[str]:
    """One sentence per n > 1: its controls, and the conclusion that a difference from n = 1 allows under them."""
    present: dict[int, dict[str, None]] = {}
    for group in groups:
        if group.n_future > 1:
            present.setdefault(group.n_future, {})[group.control] = None
    return [_note(n_future, list(controls)) for n_future, controls in sorted(present.items())]


def _note(n_future: int, controls: Sequence[str]) -> str:
    missing = [control for control in NEEDED if control not in controls]
    train = f"train it under {_listed(missing)} too" if missing else ""
    if len(controls) == 1:
        (control,) = controls
        return (
            f"n = {n_future} was trained under one control, {control}. A difference from n = 1 does not show what the further "
            f"offsets do, because {ALONE.get(control, 'something else also differs')}; {train}."
        )
    trained = f"n = {n_future} was trained under {_listed(controls)}"
    if missing:
        return f"{trained}. Before a difference from n = 1 is called an effect of the loss, {train}."
    return (
        f"{trained}. A difference from n = 1 is an effect of the further offsets' loss where layers and trunk show the same, "
        "and detached shows none."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- learning rates -------------------------------------------------------------------------------------------------------

RATE = "optim.lr"


def arms(experiments: Mapping[str, Experiment]) -> dict[frozenset[tuple[str, str]], list[str]]:
    """Run ids by experiment, where experiments that differ only in the learning rate count as one."""
    found: dict[frozenset[tuple[str, str]], list[str]] = {}
    for run, experiment in experiments.items():
        apart = frozenset(pair for pair in experiment.identity if pair[0] != RATE)
        found.setdefault(apart, []).append(run)
    return found


def rate_of(experiment: Experiment) -> float:
    """The learning rate of a run's experiment."""
    return float(experiment.values.get(RATE, 0.0))


def several_rates(experiments: Mapping[str, Experiment]) -> bool:
    """Whether some model was trained at more than one learning rate."""
    return any(len({rate_of(experiments[run]) for run in runs}) > 1 for runs in arms(experiments).values())


def best_rates(experiments: Mapping[str, Experiment], rows: Mapping[str, Comparison]) -> set[str]:
    """Ids of the runs that train each model at its best learning rate; all runs of a model whose best rate is undecided.

    Rates are compared on the seeds that finished or failed at all of them; a failed seed counts as the worst. The best rate
    has the earliest median t50; if no rate has a median, or several have an equal one, it has the best mean score. A model is
    undecided if its rates share no such seed, or every seed failed. `rows` may lack runs.
    """
    kept: set[str] = set()
    for runs in arms(experiments).values():
        by_rate: dict[float, dict[int, Comparison]] = {}
        for run in runs:
            ended = by_rate.setdefault(rate_of(experiments[run]), {})
            if run in rows and rows[run].status in ("finished", "failed"):
                ended[rows[run].seed] = rows[run]
        by_rate = {rate: ended for rate, ended in by_rate.items() if ended}
        shared = set.intersection(*(set(ended) for ended in by_rate.values())) if by_rate else set()
        ranks = {rate: _rank([ended[seed] for seed in sorted(shared)]) for rate, ended in by_rate.items()}
        if not shared or min(ranks.values()) == WORST:
            kept |= set(runs)
            continue
        best = min(ranks, key=lambda rate: ranks[rate])
        kept |= {run for run in runs if rate_of(experiments[run]) == best}
    return kept


WORST = (math.inf, math.inf)


def _rank(rows: Sequence[Comparison]) -> tuple[float, float]:
    """Sort key of a learning rate; smaller is better."""
    crossings: list[Crossing] = []
    scores: list[float] = []
    for row in rows:
        good = row.status == "finished"
        t50, seen = (row.t50_tokens, row.measured_tokens) if good else (None, 0)
        crossings.append(Crossing(run=row.run, label="", n_future=1, seed=row.seed, tokens=t50, seen=seen))
        score = math.inf if row.score is None or not good else row.score
        scores.append(-score if row.higher_is_better and math.isfinite(score) else score)
    high = median_bounds(crossings)[1]
    return math.inf if high is None else high, sum(scores) / len(scores) if scores else math.inf


def rate_note(experiments: Mapping[str, Experiment]) -> str:
    """A sentence on the learning rates of the runs; empty where there is only one model."""
    of_arms = {
        arm: sorted({rate_of(experiments[run]) for run in runs}) for arm, runs in arms(experiments).items() if runs
    }
    if len(of_arms) < 2:
        return ""
    rates = sorted({rate for found in of_arms.values() for rate in found})
    if len(rates) == 1:
        return (
            f"All models were trained at one learning rate, {rates[0]:g}. The best rate can differ with n; train with --lrs "
            "to try several."
        )
    kind = "different" if all(len(found) == 1 for found in of_arms.values()) else "several"
    return f"Models were trained at {kind} learning rates: {', '.join(f'{rate:g}' for rate in rates)}."


def best_rate_note(experiments: Mapping[str, Experiment], kept: Collection[str]) -> str:
    """A sentence on the learning rates that `best_rates` kept, and on those they were chosen from."""
    parts: list[str] = []
    for runs in arms(experiments).values():
        tried = sorted({rate_of(experiments[run]) for run in runs})
        left = sorted({rate_of(experiments[run]) for run in runs if run in kept})
        of = f" of {', '.join(f'{rate:g}' for rate in tried)}" if len(tried) > len(left) else ""
        name = group_experiments({runs[0]: experiments[runs[0]]})[runs[0]].label
        parts.append(f"{name}: {', '.join(f'{rate:g}' for rate in left)}{of}")
    chosen = " chosen by the scores shown here: a claim needs more seeds, trained at these rates"
    return f"Learning rates,{chosen}. {'; '.join(parts)}."
