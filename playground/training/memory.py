"""Estimate of the memory that a training needs, in bytes, made before it starts."""

import dataclasses

import psutil
import torch
from torch import Tensor

from playground.config import ModelConfig, RunConfig
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.training.base import freeze_base
from playground.training.objectives.base import Objective
from playground.training.objectives.registry import objective_of
from tasks.base import Batch, Device, Task, seeded_generator

PER_PARAMETER = 16
"""Bytes for each parameter: the weight, its gradient, and AdamW's two moments, in float32."""
SPARE = 1.25
"""Factor for what allocators, temporary tensors and rounding add."""
LEAST_KEPT = 5
"""Lower bound of the number of tensors as wide as the residual stream that a layer keeps for the backward pass, without its
input: the normalised input, queries, keys, values, and the output of attention. An MLP keeps more."""
MOST_KEPT = 20
"""Factor between the lower bound for the tensors kept by a whole model and an upper bound (at most 15 in tests)."""
MEASURED_LAYERS = 2
"""Trunk layers of the model whose kept bytes are measured; the bytes of deeper models are extrapolated."""


class TooLarge(MemoryError):
    """Raised before a training that does not fit into memory. The message has the needed and the free memory in GiB."""


def check_memory(config: RunConfig, task: Task, device: Device, *, processes: int = 1, free: int | None = None) -> None:
    """Raises TooLarge if a training needs more memory than `device` has free, or more than `free` bytes if that is given.

    A clear excess is found from the configuration alone, before a model is built. Only near the limit are the bytes measured,
    on two rows and few layers. The rows of a step are divided among `processes`, with `fsdp` the parameters as well.
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
    """Lower bounds, in bytes, for the parameters and for the kept activations of a batch, in each of `processes` processes.

    `config` must be resolved. `half`: activations take two bytes for each number instead of four.
    """
    model, train = config.model, config.train
    parameters = count_parameters(model).total
    if config.base is not None:  # a frozen trunk has no gradients, and keeps nothing for a backward pass
        return parameters * 4, 0
    tokens = max(1, train.batch_size // (train.accumulate * processes)) * (model.n_ctx or 0)
    # Bytes for each number of the residual stream: a layer's input in float32, and the tensors that recomputation would drop.
    per_layer = 4 + (0 if train.recompute else LEAST_KEPT * (2 if half else 4))
    return (
        parameters * PER_PARAMETER // (processes if train.parallel == "fsdp" else 1),
        tokens * model.n_trunk_layers * model.d_model * per_layer,
    )


def training_bytes(config: RunConfig, task: Task, device: Device) -> int:
    """Bytes that training one model of this configuration needs on `device`, without the memory of the libraries themselves.

    Weights, gradients and moments are counted. Tensors kept for the backward pass are measured: forward passes on one and two
    rows on the CPU, with a trunk of few layers, in the precision of `device`, with hooks that count what torch stores.
    """
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    kept = _kept_per_row(config, config.model, task, half=torch.device(device).type == "cuda")
    rows = config.train.batch_size // config.train.accumulate
    return int(SPARE * (PER_PARAMETER * count_parameters(config.model).total + kept * rows))


def free_memory(device: torch.device) -> int:
    """Free memory of `device` in bytes: of the GPU, or of the machine for the CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _heads_at_once(config: RunConfig) -> ModelConfig:
    """The model whose activations are in memory at the same time.

    That is one with a single future head if the future heads run forward and backward one after another
    (objectives/head_by_head.py).
    """
    model, by_head = config.model, objective_of(config.train).head_by_head() is not None
    if config.train.backward == "one_graph" or not by_head or any(len(path) > 1 for path in model.paths):
        return model
    n_layers = model.n_trunk_layers + model.head_type.module(0).has_attention
    return dataclasses.replace(model, n_future=1, control="trunk", n_layers=n_layers)


def _kept_per_row(config: RunConfig, model: ModelConfig, task: Task, *, half: bool) -> int:
    """Bytes that a training of `model` keeps for the backward pass, for each row of a forward pass."""
    batch, objective = task.sample(2, seeded_generator(0)), objective_of(config.train)

    def measured(layers: int) -> int:
        spared = max(0, model.n_trunk_layers - layers)
        built = MTPTransformer(dataclasses.replace(model, n_layers=model.n_layers - spared))
        built.recompute = config.train.recompute
        if config.base is not None:
            freeze_base(built)
        # The difference leaves out what does not grow with the rows, such as weights in half precision.
        one, two = (_kept_bytes(built, objective, batch.rows(0, rows), half=half) for rows in (1, 2))
        return max(one, two - one)

    kept, more = measured(MEASURED_LAYERS), max(0, model.n_trunk_layers - MEASURED_LAYERS)
    return kept + more * (kept - measured(MEASURED_LAYERS - 1)) if more else kept


def _kept_bytes(model: MTPTransformer, objective: Objective, batch: Batch, *, half: bool) -> int:
    """Bytes that a forward pass keeps for the backward pass, without parameters; tensors that share a storage count once."""
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
        losses = objective.losses(model, batch)  # its graph holds all storages: no address is reused
    del losses
    return sum(sizes.values())


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"
