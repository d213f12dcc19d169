"""Agreement of the offsets: whether offset k at t and offset 1 at t + k - 1, which predict one token, have the same argmax.

Worked row, the likeliest token of two offsets at each position:

    position                         0   1   2   3
    token                            5   6   7   8
    offset 1 predicts, 1 ahead       6   7   9   .
    offset 2 predicts, 2 ahead       7   8   .   .

    token to predict at position             2   3
    offset 2 predicts, 2 positions before    7   8
    offset 1 predicts, 1 position before     7   9      agreement of offset 2: 1/2

Predictions are teacher-forced: offset 1 has read k - 1 more tokens (which `sequential` future heads read as well). Agreement is
not accuracy: both may be wrong. Self-speculative decoding depends on it (Gloeckle et al. 2024, 2404.19737, section 3.2, where
it is measured on generated text).
"""

import numpy as np
import torch
from torch import Tensor

from playground.figures.probe_charts import agreement_figure
from playground.model.transformer import MTPTransformer
from playground.probes.probe import MANY_ROWS, Probe, on_rows
from playground.probes.quiet import quietly
from playground.results import OffsetAgreement
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets


def offset_agreement(model: MTPTransformer, batch: Batch) -> OffsetAgreement:
    """Agreement of every offset with offset 1, on the tokens of `batch` that are targets of the offset.

    Pairs of positions in different documents, and tokens that are not trained on, are therefore not compared. Shares are NaN
    where there is no pair.
    """
    batch = batch.to(model.W_E.device)
    with quietly(model):
        resids = model.future_resids(model.trunk(batch.tokens), batch.tokens)
        said = [model.logits(resid, offset).argmax(dim=-1) for offset, resid in enumerate(resids, start=1)]
    d_vocab = model.W_U.shape[1]
    columns = []
    for offset, own in enumerate(said, start=1):
        rows, positions = (future_targets(batch, offset) != IGNORED).nonzero(as_tuple=True)
        columns.append(_compare(own[rows, positions], said[0][rows, positions + offset - 1], d_vocab))
    agreement, chance, count = zip(*columns, strict=True)
    return OffsetAgreement(agreement=np.array(agreement), chance=np.array(chance), count=np.array(count))


def _compare(first: Tensor, second: Tensor, d_vocab: int) -> tuple[float, float, int]:
    """Share of equal entries in two lists of tokens, the share expected from their frequencies alone, and their length."""
    count = len(first)
    if not count:
        return float("nan"), float("nan"), 0
    frequency, other = (torch.bincount(tokens, minlength=d_vocab).double() / count for tokens in (first, second))
    return (first == second).double().mean().item(), (frequency @ other).item(), count


PROBE = Probe(
    name="agreement",
    summary="How often offset k and, k - 1 tokens later, offset 1 predict the same token.",
    result=OffsetAgreement,
    make=on_rows(offset_agreement, MANY_ROWS),
    figure=agreement_figure,
)
