"""The logit lens (nostalgebraist 2020) for several offsets: the predictions that every trunk layer would already give.

The residual stream after a layer is read in two ways, for each offset k:

- through future head k, as if the trunk ended there: future head, final norm, unembedding. After the last layer of the trunk
  this is the model's own prediction.
- directly, by final norm and unembedding alone: the ordinary lens, which gives all offsets one distribution (with replicated
  unembeddings each offset uses its own; `lens_view` shows that of offset 1).

Where future heads read one another, "through future head k" means through all future heads on its path.

A future head is trained to read the trunk output. Its loss on an earlier stream shows whether the information is already there
in the directions that it reads; it is no upper bound on the information in the stream, which linear probes estimate
(playground/probes/linear.py).

Dimension letters: B batch, T position, R rank, V d_vocab.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from playground.figures.probe_charts import lens_layers_figure
from playground.model.transformer import MTPTransformer
from playground.probes.probe import MANY_ROWS, Probe, on_rows
from playground.probes.quiet import all_offsets, quietly
from playground.probes.residuals import trunk_streams
from playground.results import Lens, LensView
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets, score_targets


def lens(model: MTPTransformer, batch: Batch) -> Lens:
    """Loss (nats per target) and accuracy (on scored tokens) of every trunk site and offset; NaN without targets."""
    batch = batch.to(model.W_E.device)
    through, direct = [], []
    with quietly(model):
        streams = trunk_streams(model, batch.tokens)
        for resid in streams.values():
            resids = enumerate(model.future_resids(resid, batch.tokens), start=1)
            through.append([_figures(model.logits(stream, k), batch, k) for k, stream in resids])
            direct.append(_direct_figures(model, resid, batch))
    loss, accuracy = np.moveaxis(np.array(through, dtype=np.float64), 2, 0)
    direct_loss, direct_accuracy = np.moveaxis(np.array(direct, dtype=np.float64), 2, 0)
    return Lens(
        sites=tuple(streams),
        loss=loss,
        accuracy=accuracy,
        direct_loss=direct_loss,
        direct_accuracy=direct_accuracy,
    )


def lens_view(model: MTPTransformer, tokens: Int[Tensor, " pos"], ranks: int = 3) -> LensView:
    """The `ranks` likeliest tokens and their probabilities at every position of one row `[pos]`, for every site and offset.

    Raises ValueError when `ranks` is not within 1..d_vocab, or the row does not fit the model's context.
    """
    d_vocab = model.W_E.shape[0]
    if not 1 <= ranks <= d_vocab:
        raise ValueError(f"ranks is {ranks}, and the model has {d_vocab} tokens; write 1 to {d_vocab}")
    with quietly(model):
        rows = tokens[None].to(model.W_E.device)
        streams = trunk_streams(model, rows)
        through = [
            [_ranked(model.logits(stream, k), ranks) for k, stream in enumerate(model.future_resids(resid, rows), 1)]
            for resid in streams.values()
        ]
        direct = [_ranked(model.logits(resid), ranks) for resid in streams.values()]
    return LensView(
        sites=tuple(streams),
        tokens=tuple(tokens.tolist()),
        through=np.array([[ids for ids, _ in site] for site in through]),
        probability=np.array([[values for _, values in site] for site in through]),
        direct=np.array([ids for ids, _ in direct]),
        direct_probability=np.array([values for _, values in direct]),
    )


def _direct_figures(model: MTPTransformer, resid_BTD: Tensor, batch: Batch) -> list[tuple[float, float]]:
    """Loss and accuracy of the direct reading for every offset; with a shared unembedding the logits are computed once."""
    logits_BTV = model.logits(resid_BTD)
    own = [model.logits(resid_BTD, k) if model.more_unembeds else logits_BTV for k in all_offsets(model)]
    return [_figures(logits, batch, k) for k, logits in enumerate(own, start=1)]


def _figures(logits_BTV: Tensor, batch: Batch, offset: int) -> tuple[float, float]:
    """Loss per target, and accuracy on scored tokens."""
    targets_BT, scored_BT = future_targets(batch, offset), score_targets(batch, offset)
    logits_BTV = logits_BTV.float()
    loss_BT = F.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, ignore_index=IGNORED, reduction="none")
    correct = (logits_BTV.argmax(dim=-1) == scored_BT).sum()  # IGNORED is no token id, so it never equals a prediction
    loss, accuracy = loss_BT.sum() / (targets_BT != IGNORED).sum(), correct / (scored_BT != IGNORED).sum()
    return loss.item(), accuracy.item()


def _ranked(logits_BTV: Tensor, ranks: int) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest tokens of the first row and their probabilities, each `[pos, rank]`."""
    probability_TR, tokens_TR = torch.topk(logits_BTV[0].float().softmax(dim=-1), ranks, dim=-1)
    return tokens_TR.cpu().numpy(), probability_TR.double().cpu().numpy()


PROBE = Probe(
    name="lens",
    summary="Loss and accuracy when every layer is read through each future head, and directly.",
    result=Lens,
    make=on_rows(lens, MANY_ROWS),
    figure=lens_layers_figure,
)
