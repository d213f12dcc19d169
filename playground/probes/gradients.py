"""Gradient of each offset's loss at the trunk output z: how strongly each offset trains the trunk, and whether they agree.

The trunk is trained by the sum of these gradients alone (Gloeckle et al. 2024, 2404.19737, section 2), so that

    share_k = |g_k| / |g_1 + .. + g_n|      cosine_jk = g_j . g_k / (|g_j| |g_k|)

with g_k the gradient of offset k's mean loss, over all positions of the batch as one vector. Orthogonal gradients of equal
size have shares of 1 / sqrt(n), equal gradients of 1 / n; a share above 1 means that the other gradients oppose this one. The
loss weights used in training (`offset_weights`) are not applied here. Under control `detached` further offsets have share 0.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from playground.figures.probe_charts import gradients_figure
from playground.model.transformer import MTPTransformer
from playground.probes.probe import MANY_ROWS, Probe, on_rows
from playground.probes.quiet import all_offsets, quietly
from playground.results import GradientShares
from tasks.base import Batch
from tasks.targets import IGNORED, future_targets


def gradient_shares(model: MTPTransformer, batch: Batch) -> GradientShares:
    """Shares, cosines and losses of all offsets on `batch`.

    An offset without targets has loss NaN, share 0 and cosine NaN; one without a gradient at z has share 0 and cosine NaN.
    The `grad` of the parameters is not changed.
    """
    batch = batch.to(model.W_E.device)
    with quietly(model):
        z = model.trunk(batch.tokens)
    losses: list[float] = []
    gradients: list[Tensor] = []
    with quietly(model, gradients=True):
        z = z.detach().requires_grad_()
        for offset in all_offsets(model):
            total, count = _total_loss(model, z, batch, offset)
            losses.append(total.item() / count if count else float("nan"))
            gradients.append(_gradient(total / max(count, 1), z).double().flatten())
    stacked = torch.stack(gradients)
    norms = stacked.norm(dim=1)
    cosine = (stacked @ stacked.T) / torch.outer(norms, norms)
    share = norms / stacked.sum(dim=0).norm()
    return GradientShares(share=share.cpu().numpy(), cosine=cosine.cpu().numpy(), loss=np.array(losses))


def _gradient(loss: Tensor, z: Tensor) -> Tensor:
    """The gradient at z; zero where the loss does not depend on z, as for further offsets under control `detached`."""
    if not loss.requires_grad:
        return torch.zeros_like(z)
    (gradient,) = torch.autograd.grad(loss, z, allow_unused=True, materialize_grads=True)
    return gradient


def _total_loss(model: MTPTransformer, z: Tensor, batch: Batch, offset: int) -> tuple[Tensor, int]:
    """Summed cross-entropy of one offset in nats, and its number of targets."""
    targets = future_targets(batch, offset)
    logits = model.logits(model.future_resid(z, offset, batch.tokens), offset).float()
    total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total, int((targets != IGNORED).sum())


PROBE = Probe(
    name="gradients",
    summary="Size of each offset's gradient at the trunk output, and the cosines between the offsets' gradients.",
    result=GradientShares,
    make=on_rows(gradient_shares, MANY_ROWS),
    figure=gradients_figure,
)
