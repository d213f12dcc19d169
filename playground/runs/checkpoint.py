"""Checkpoints: weights, optimizer, generator and counters as safetensors, written whole or not at all.

Weights stay at every stored step; what only a resumed run needs (the optimizer and the rest) stays at the last one.
"""

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from playground.config import ModelConfig
from playground.model.transformer import MTPTransformer

WEIGHTS = "weights.safetensors"
RESUME = "resume.safetensors"


def save_checkpoint(
    folder: Path,
    step: int,
    model: MTPTransformer,
    optimizer: torch.optim.Optimizer,
    counters: dict[str, Tensor],
) -> Path:
    """Write `folder/<step>/` and drop the older steps' resume files. `counters` are further tensors to keep."""
    target = folder / str(step)
    temporary = folder / f".{step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary / WEIGHTS)
    save_file(counters | _optimizer_tensors(model, optimizer), temporary / RESUME)
    if target.exists():  # replaced file by file: a kill in between leaves a checkpoint to go on from
        for name in (WEIGHTS, RESUME):
            os.replace(temporary / name, target / name)
        temporary.rmdir()
    else:
        os.replace(temporary, target)
    for other in folder.iterdir():
        if other != target and other.name.isdigit() and int(other.name) < step:
            (other / RESUME).unlink(missing_ok=True)
    return target


def load_model(folder: Path, config: ModelConfig) -> MTPTransformer:
    """The model stored in a checkpoint folder, on the CPU, in evaluation mode."""
    model = MTPTransformer(config)
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def load_checkpoint(folder: Path, model: MTPTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Put a checkpoint into `model` and `optimizer`; returns the counters it was saved with."""
    device = next(model.parameters()).device
    model.load_state_dict(load_file(folder / WEIGHTS))
    tensors = load_file(folder / RESUME)
    for name, parameter in model.named_parameters():
        keys = [key for key in tensors if key.startswith(f"optimizer/{name}/")]
        state = {key.rsplit("/", 1)[1]: tensors.pop(key) for key in keys}
        if state:
            optimizer.state[parameter] = {key: value.to(device) for key, value in state.items()}
    return tensors


def resumable(folder: Path) -> list[int]:
    """Steps of `folder` from which a run can go on, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / RESUME).exists())


def _optimizer_tensors(model: MTPTransformer, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    # Replicas that share an optimizer share its counter, and a file holds nothing twice: hence the clone.
    return {
        f"optimizer/{name}/{key}": value.contiguous() if value.ndim else value.clone()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
