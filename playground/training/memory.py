"""How much memory a training will need, before it starts."""

import torch
from torch import Tensor

from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.training.loss import one_graph_loss
from tasks.base import Batch, Device, Task, seeded_generator

PER_PARAMETER = 16
"""Bytes: the weight, its gradient, and AdamW's two moments, in float32."""
SPARE = 1.25
"""What allocators, temporary tensors and rounding add."""


def training_bytes(config: RunConfig, task: Task, device: Device) -> int:
    """Bytes that training one model of this configuration needs on `device`, beside what the libraries take.

    Parameters, gradients and moments are counted. What is kept for the backward pass is found by going forward on two rows
    on the CPU, under the precision that the device trains in, and asking torch what it keeps.
    """
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    model = MTPTransformer(config.model)
    model.recompute = config.train.recompute
    on_cuda = torch.device(device).type == "cuda"
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    batch = task.sample(2, seeded_generator(0))
    one, two = (_kept_bytes(model, batch.rows(0, rows), half=on_cuda) for rows in (1, 2))
    rows = config.train.batch_size // config.train.accumulate
    return int(SPARE * (PER_PARAMETER * n_parameters + max(one, two - one) * rows))


def _kept_bytes(model: MTPTransformer, batch: Batch, *, half: bool) -> int:
    """Bytes of what a forward pass keeps for the backward pass, parameters left out."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=half),
    ):
        losses = one_graph_loss(model, batch, None)  # kept until here, so that no storage is counted for another
    del losses
    return sum(sizes.values())
