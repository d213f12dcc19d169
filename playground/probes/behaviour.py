"""Loss and accuracy per offset on fixed rows, and the in-context learning score (Olsson et al. 2022, 2209.11895).

Worked row of 8 tokens: the early stretch is the positions 1 to 2, the late one 6 to 7 (a quarter of the row each); a model
whose losses there are 4.0 and 1.5 has an in-context score of 1.5 - 4.0 = -2.5 nats.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.probes.quiet import all_offsets, quietly
from playground.results import Behaviour
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets, score_targets


def measure_behaviour(model: MTPTransformer, batch: Batch) -> Behaviour:
    """Teacher-forced figures of every offset on the rows of `batch`."""
    batch = batch.to(model.W_E.device)
    early, late = stretches(batch.tokens.shape[1])
    columns = []
    with quietly(model):
        z = model.trunk(batch.tokens)
        for offset in all_offsets(model):
            logits_BTV = model.logits(model.future_resid(z, offset)).float()
            columns.append(_figures(logits_BTV, batch, offset, (early, late)))
    loss, score_loss, accuracy, early_loss, late_loss = np.array(columns, dtype=np.float64).T
    return Behaviour(
        loss=loss, score_loss=score_loss, accuracy=accuracy, early=early, late=late, in_context=late_loss - early_loss
    )


def stretches(length: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First and last position of the early and of the late quarter of a row; position 0 has seen nothing and is left out.

    >>> stretches(8)
    ((1, 2), (6, 7))
    """
    quarter = max(1, length // 4)
    return (1, quarter), (length - quarter, length - 1)


def _figures(
    logits_BTV: Tensor, batch: Batch, offset: int, parts: tuple[tuple[int, ...], tuple[int, ...]]
) -> list[float]:
    """Loss, loss on scored tokens, accuracy on them, and the loss of TARGETS in the early and in the late stretch."""
    targets_BT, scored_BT = future_targets(batch, offset), score_targets(batch, offset)
    loss_BT = F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, ignore_index=IGNORED, reduction="none")
    is_scored = scored_BT != IGNORED
    scored_loss_BT = F.cross_entropy(logits_BTV.transpose(1, 2), scored_BT, ignore_index=IGNORED, reduction="none")
    correct = (logits_BTV.argmax(dim=-1) == scored_BT) & is_scored
    target_at = torch.arange(targets_BT.shape[1], device=targets_BT.device) + offset
    figures = [
        loss_BT.sum() / (targets_BT != IGNORED).sum(),
        scored_loss_BT.sum() / is_scored.sum(),
        correct.sum() / is_scored.sum(),
    ]
    for first, last in parts:
        here = (targets_BT != IGNORED) & (target_at >= first) & (target_at <= last)
        figures.append((loss_BT * here).sum() / here.sum())
    return torch.stack([figure.double() for figure in figures]).tolist()
