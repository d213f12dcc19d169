"""Loss and accuracy per offset on fixed rows, and the in-context learning score (Olsson et al. 2022, 2209.11895).

Worked row of 8 tokens: the early part is the positions 1 to 2, the late part 6 to 7 (a quarter of the row each); a model whose
losses there are 4.0 and 1.5 has an in-context score of 1.5 - 4.0 = -2.5 nats.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from playground.figures.probe_charts import behaviour_figure
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.probes.probe import Probe
from playground.probes.quiet import quietly
from playground.probes.repeated import RepeatedProbe, device_of, joint_of, replicas_of
from playground.probes.rows import probe_batch
from playground.results import Behaviour
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets, score_targets


def measure_behaviour(model: MTPTransformer, batch: Batch) -> Behaviour:
    """Teacher-forced loss, accuracy and in-context score of every offset on the rows of `batch`."""
    return BehaviourProbe(batch)(model)


class BehaviourProbe(RepeatedProbe[Behaviour]):
    """The measures of `measure_behaviour` on fixed rows: `BehaviourProbe(batch)(model)`."""

    def __init__(self, batch: Batch) -> None:
        self.batch, self.stretches = batch, stretches(batch.tokens.shape[1])

    def read(self, models: MTPTransformer | Stack) -> Float[Tensor, "replica offset figure"]:
        """Per replica and offset: loss, loss on scored tokens, accuracy on them, loss early and loss late in the row."""
        model, replicas = joint_of(models), len(replicas_of(models))
        self.batch = batch = self.batch.to(device_of(models))
        tokens = batch.tokens.repeat(replicas, 1)
        columns: list[Tensor] = []
        with quietly(model):
            resids = model.future_resids(model.trunk(tokens), tokens)
            for offset, resid_BTD in enumerate(resids, start=1):
                own = model.logits(resid_BTD, offset).float().chunk(replicas)
                columns.append(torch.stack([_figures(logits, batch, offset, self.stretches) for logits in own]))
        return torch.stack(columns, dim=1)

    def result(self, model: MTPTransformer, figures: Float[np.ndarray, "*figures"]) -> Behaviour:
        """The array of measures as named fields."""
        early, late = self.stretches
        loss, score_loss, accuracy, early_loss, late_loss = figures.T
        return Behaviour(
            loss=loss,
            score_loss=score_loss,
            accuracy=accuracy,
            early=early,
            late=late,
            in_context=late_loss - early_loss,
        )


def stretches(length: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last position of the early and of the late quarter of a row; position 0 is excluded, since it has no context.

    >>> stretches(8)
    ((1, 2), (6, 7))
    """
    quarter = max(1, length // 4)
    return (1, quarter), (length - quarter, length - 1)


def _figures(logits_BTV: Tensor, batch: Batch, offset: int, parts: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor:
    """Loss, loss on scored tokens, accuracy on them, and loss over the TARGETS in the early and in the late part of a row."""
    targets_BT, scored_BT = future_targets(batch, offset), score_targets(batch, offset)
    is_target, is_scored = targets_BT != IGNORED, scored_BT != IGNORED
    tokens_BT = torch.where(is_scored, scored_BT, targets_BT)  # where not IGNORED, both hold the token `offset` ahead
    loss_BT = F.cross_entropy(logits_BTV.transpose(1, 2), tokens_BT, ignore_index=IGNORED, reduction="none")
    correct_BT = (logits_BTV.argmax(dim=-1) == tokens_BT).float()
    target_at = torch.arange(tokens_BT.shape[1], device=tokens_BT.device) + offset
    inside = [is_target & (target_at >= first) & (target_at <= last) for first, last in parts]

    def mean(values_BT: Tensor, where: Tensor) -> Tensor:
        return ((values_BT * where).sum() / where.sum()).double()

    means = [mean(loss_BT, is_target), mean(loss_BT, is_scored), mean(correct_BT, is_scored)]
    return torch.stack(means + [mean(loss_BT, here) for here in inside])


PROBE = Probe(
    name="behaviour",
    summary="Loss and accuracy of each offset on rows of the task, and how much context helps.",
    result=Behaviour,
    make=lambda task, _n_future: BehaviourProbe(probe_batch(task)),
    figure=behaviour_figure,
)
