"""Knockout: accuracy without the induction heads, and, as a control, without as many random other heads.

Heads are classified by their scores on the task's own rows, at the queries before scored tokens: an induction head has at least
CLEAR on prefix matching, a previous-token head on the previous-token score, both above their null band. The controls are
drawn from the heads that are neither. The measure is the accuracy of offset 1, so only heads that it depends on are used, those
of the trunk and of the future heads on its path: a control of other heads could never change the accuracy. All ablations
replace by the mean over the rows.
"""

from collections.abc import Sequence

import numpy as np
import torch

from playground.figures.probe_charts import knockout_figure
from playground.model.transformer import MTPTransformer
from playground.probes.ablation import SET, ablate
from playground.probes.attention_scores import attention_scores, scored_queries
from playground.probes.probe import MANY_ROWS, Probe, on_rows
from playground.results import Head, Knockout, used_by
from playground.results.base import measured_mean, measured_spread
from playground.results.causal import CLEAR
from tasks.base import Batch, seeded_generator

DRAWS = 10
"""Random draws of controls; equal draws count once."""
SEED = 20220308


def knockout(model: MTPTransformer, batch: Batch, generator: torch.Generator | None = None) -> Knockout:
    """Classify the heads on `batch`, ablate each group, and compare. `generator` (on the CPU) draws the controls.

    If there are no induction heads, `without_induction` is the accuracy of the whole model, and there are no controls.
    """
    generator = generator or seeded_generator(SEED)
    scores = attention_scores(
        model, batch.tokens, seeded_generator(SEED), queries=scored_queries(batch), real=batch.real, rows_from="task"
    )
    paths = model.config.paths
    induction = used_by(scores.strongest("prefix_matching", CLEAR), 1, paths)
    previous = used_by(scores.strongest("previous_token", CLEAR), 1, paths)
    previous = tuple(head for head in previous if head not in induction)
    others = tuple(head for head in used_by(scores.heads, 1, paths) if head not in induction and head not in previous)
    n_control = min(len(induction), len(others))
    draws = dict.fromkeys(_draw(others, n_control, generator) for _ in range(DRAWS)) if n_control else {}
    sets = [induction, previous, *draws]
    effects = ablate(model, batch, [SET.join(map(str, heads)) for heads in sets if heads])
    accuracies = iter(effects.accuracy[:, :, 0])
    clean = effects.clean_accuracy[:, 0]
    found = [next(accuracies) if heads else clean for heads in sets]
    return Knockout(
        induction=induction,
        previous_token=previous,
        others=others,
        accuracy=float(measured_mean(clean)),
        without_induction=float(measured_mean(found[0])),
        without_induction_spread=float(measured_spread(found[0], axis=0)),
        without_previous=float(measured_mean(found[1])),
        without_others=np.array([float(measured_mean(part)) for part in found[2:]]),
        n_control=n_control,
    )


def _draw(heads: Sequence[Head], count: int, generator: torch.Generator) -> tuple[Head, ...]:
    order = torch.randperm(len(heads), generator=generator)[:count]
    return tuple(heads[index] for index in sorted(order.tolist()))


PROBE = Probe(
    name="knockout",
    summary="Accuracy without the induction heads, the previous-token heads, and as many random other heads.",
    result=Knockout,
    make=on_rows(knockout, MANY_ROWS),
    figure=knockout_figure,
)
