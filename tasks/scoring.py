"""Teacher-forced scoring shared by the tasks: loss and accuracy per offset over a fixed set of batches."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.base import Batch, Predict
from tasks.targets import IGNORED, future_targets, score_targets

MOST_LOGITS = 2**30
"""Most logits of one forward: four gigabytes."""


@dataclass(frozen=True, kw_only=True)
class TeacherForced:
    """Means per offset 1..n_future under teacher forcing; NaN where there are no targets.

    `loss` is over all targets (nats per token); `score_loss` and `accuracy` are over the `count` scored targets.
    """

    loss: tuple[float, ...]
    score_loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]


def rows_at_once(usual: int, logits_of_row: int) -> int:
    """Rows of one forward: the `usual` number, or fewer so that it has at most MOST_LOGITS logits, but at least one."""
    return max(1, min(usual, MOST_LOGITS // logits_of_row))


@torch.no_grad()
def teacher_forced(predict: Predict, batches: Iterable[Batch], n_future: int) -> TeacherForced:
    """Score `predict` on `batches` for the offsets 1..n_future in one forward per batch."""
    offsets = range(1, n_future + 1)
    totals = torch.zeros(n_future, 5, dtype=torch.float64)
    for batch in batches:
        logits_BTKV = predict(batch.tokens, tuple(offsets)).float()
        for row, offset in enumerate(offsets):
            logits_BVT = logits_BTKV[:, :, row].transpose(1, 2)
            totals[row] += _sums(logits_BVT, future_targets(batch, offset), score_targets(batch, offset)).cpu()
    loss, targets, score_loss, correct, scored = totals.unbind(dim=1)
    return TeacherForced(
        loss=tuple((loss / targets).tolist()),
        score_loss=tuple((score_loss / scored).tolist()),
        accuracy=tuple((correct / scored).tolist()),
        count=tuple(int(value) for value in scored.tolist()),
    )


def _sums(logits_BVT: Tensor, targets_BT: Tensor, scored_BT: Tensor) -> Tensor:
    """Sums over targets: loss, number of targets, loss on scored targets, correct scored targets, number of scored ones."""
    losses_BT = F.cross_entropy(logits_BVT, targets_BT, ignore_index=IGNORED, reduction="none")
    is_scored = scored_BT != IGNORED
    score_losses_BT = F.cross_entropy(logits_BVT, scored_BT, ignore_index=IGNORED, reduction="none")
    correct = (logits_BVT.argmax(dim=1) == scored_BT) & is_scored
    counts = (losses_BT.sum(), (targets_BT != IGNORED).sum(), score_losses_BT.sum(), correct.sum(), is_scored.sum())
    return torch.stack([count.double() for count in counts])
