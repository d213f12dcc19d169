"""How much memory a training will need, before it starts."""

import dataclasses

import psutil
import torch
from torch import Tensor

from playground.config import ModelConfig, RunConfig
from playground.config.future_heads import is_layer
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.training.base import freeze_base
from playground.training.loss import one_graph_loss
from tasks.base import Batch, Device, Task, seeded_generator

PER_PARAMETER = 16
"""Bytes: the weight, its gradient, and AdamW's two moments, in float32."""
SPARE = 1.25
"""What allocators, temporary tensors and rounding add."""
LEAST_KEPT = 5
"""Tensors as wide as the residual stream that a layer keeps for the backward pass beside its input, at least: the input
normalised, queries, keys, values, and what attention makes of them. An MLP keeps more."""
MOST_KEPT = 20
"""What a model really keeps is less than so many times the least (15 times at most, in tests)."""
MEASURED_LAYERS = 2
"""Trunk layers of the model whose kept bytes are measured; those of a deeper one follow from them."""


class TooLarge(MemoryError):
    """A training that does not fit the memory, refused before it starts. The message has both numbers."""


def check_memory(config: RunConfig, task: Task, device: Device, *, processes: int = 1, free: int | None = None) -> None:
    """Raises TooLarge, with both numbers, when a training needs more memory than `device` has free.

    What is far too large is known from the configuration alone, before a model is built; what is near the limit is measured on
    two rows and few layers. `processes` share the rows of a step, and under `fsdp` the parameters.
    """
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    half = torch.device(device).type == "cuda"
    free = free_memory(torch.device(device)) if free is None else free
    weights, kept = least_bytes(config, half=half, processes=processes)
    if weights + kept <= free < weights + MOST_KEPT * kept:
        rows = max(1, config.train.batch_size // (config.train.accumulate * processes))
        kept = max(kept, rows * _kept_per_row(config, _heads_at_once(config), task, half=half))
    if weights + kept <= free:
        return
    instead = "a smaller d_model, n_layers or d_vocab"
    if weights <= free:
        instead = "a smaller batch_size, a larger accumulate, or recompute"
    raise TooLarge(
        f"one training needs at least {_gib(weights + kept)} ({_gib(weights)} for parameters, {_gib(kept)} for a batch), and "
        f"{_gib(free)} are free on {device}; write {instead}"
    )


def least_bytes(config: RunConfig, *, half: bool, processes: int = 1) -> tuple[int, int]:
    """Bytes that one of `processes` needs at least, for parameters and for a batch, given a resolved configuration."""
    model, train = config.model, config.train
    parameters = count_parameters(model).total
    if config.base is not None:  # a frozen trunk has no gradients, and keeps nothing for a backward pass
        return parameters * 4, 0
    tokens = max(1, train.batch_size // (train.accumulate * processes)) * (model.n_ctx or 0)
    per_layer = 4 + (0 if train.recompute else LEAST_KEPT * (2 if half else 4))
    return (
        parameters * PER_PARAMETER // (processes if train.parallel == "fsdp" else 1),
        tokens * model.n_trunk_layers * model.d_model * per_layer,
    )


def training_bytes(config: RunConfig, task: Task, device: Device) -> int:
    """Bytes that training one model of this configuration needs on `device`, beside what the libraries take.

    Parameters, gradients and moments are counted. What is kept for the backward pass is found by going forward on two rows
    on the CPU, with a trunk of few layers, under the precision that the device trains in, and asking torch what it keeps.
    """
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    kept = _kept_per_row(config, config.model, task, half=torch.device(device).type == "cuda")
    rows = config.train.batch_size // config.train.accumulate
    return int(SPARE * (PER_PARAMETER * count_parameters(config.model).total + kept * rows))


def free_memory(device: torch.device) -> int:
    """Bytes that a training may still take."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _heads_at_once(config: RunConfig) -> ModelConfig:
    """The model with one future head, where the heads go forward and backward one after another (training/loss.py)."""
    model = config.model
    if config.train.backward == "one_graph" or any(len(path) > 1 for path in model.paths):
        return model
    n_layers = model.n_trunk_layers + is_layer(model.future_heads, 0)
    return dataclasses.replace(model, n_future=1, control="trunk", n_layers=n_layers)


def _kept_per_row(config: RunConfig, model: ModelConfig, task: Task, *, half: bool) -> int:
    """Bytes that a training of `model` keeps for the backward pass, for each row of a step."""
    batch = task.sample(2, seeded_generator(0))

    def measured(layers: int) -> int:
        spared = max(0, model.n_trunk_layers - layers)
        built = MTPTransformer(dataclasses.replace(model, n_layers=model.n_layers - spared))
        built.recompute = config.train.recompute
        if config.base is not None:
            freeze_base(built)
        one, two = (_kept_bytes(built, batch.rows(0, rows), half=half) for rows in (1, 2))
        return max(one, two - one)

    kept, more = measured(MEASURED_LAYERS), max(0, model.n_trunk_layers - MEASURED_LAYERS)
    return kept + more * (kept - measured(MEASURED_LAYERS - 1)) if more else kept


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


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"
