"""A model, made ready for a task's `evaluate`: evaluation mode, no gradients, the training precision."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from playground.model.transformer import MTPTransformer
from tasks.base import Evaluation, Task


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode from before is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def evaluate(model: MTPTransformer, task: Task, *, full: bool = False) -> Evaluation:
    """The task's scores of the model and its test loss per offset (with `full`, on the whole test set).

    Raises ValueError when the task has tokens that the model does not know.
    """
    if task.d_vocab > model.W_E.shape[0]:
        raise ValueError(
            f"the task has {task.d_vocab} tokens and the model knows {model.W_E.shape[0]}; take another task"
        )
    device = next(model.parameters()).device

    def predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            return model(tokens, offsets)

    with evaluating(model):
        return task.evaluate(predict, n_future=model.n_future, device=device, full=full)
