"""Evaluation of models by a task: evaluation mode, no gradients, autocast as in training."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from playground.model.evaluation_mode import evaluation_mode
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.training.objectives.base import Objective
from tasks.base import Batch, Evaluation, Predict, Task


def evaluate(model: MTPTransformer, task: Task, *, full: bool = False) -> Evaluation:
    """The task's scores of the model and its test loss for each offset; with `full`, on the whole test set.

    Raises ValueError if the task's vocabulary is larger than the model's.
    """
    if task.d_vocab > model.W_E.shape[0]:
        raise ValueError(
            f"the task has {task.d_vocab} tokens and the model knows {model.W_E.shape[0]}; take another task"
        )
    device = next(model.parameters()).device

    def predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        return _logits(model, tokens, offsets)

    with evaluation_mode(model), torch.no_grad():
        return task.evaluate(predict, n_future=model.n_future, device=device, full=full)


def evaluate_losses(model: MTPTransformer, objective: Objective, batch: Batch) -> dict[str, float]:
    """The losses of an objective on one batch, by name. Waits for the device."""
    device = batch.tokens.device.type
    with (
        evaluation_mode(model),
        torch.no_grad(),
        torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"),
    ):
        losses = objective.losses(model, batch)[0].tolist()
    return dict(zip(objective.loss_names(model.n_future), losses, strict=True))


def evaluate_together(
    models: Sequence[MTPTransformer], task: Task, stack: Stack | None, *, full: bool = False
) -> list[Evaluation]:
    """Scores and test losses of each model, as `evaluate` gives them; with a `stack` of the models, by joint forward passes.

    Raises the error of the first model whose evaluation failed.
    """
    if stack is None:
        return [evaluate(model, task, full=full) for model in models]
    model, device = models[0], models[0].W_E.device
    together = _Lockstep(stack)

    def one(replica: int) -> Evaluation:
        with together.abandoned_on_error(), torch.no_grad():
            predict = together.predict_of(replica)
            return task.evaluate(predict, n_future=model.n_future, device=device, full=full)

    with evaluation_mode(stack.joint), torch.no_grad(), ThreadPoolExecutor(len(models)) as pool:
        evaluations = [pool.submit(one, replica) for replica in range(len(models))]
    for evaluation in evaluations:
        error = evaluation.exception()
        if error is not None and not isinstance(
            error, threading.BrokenBarrierError
        ):  # raised in the threads that waited for the one that failed
            raise error
    return [evaluation.result() for evaluation in evaluations]


class _Lockstep:
    """Joint forward passes for evaluations that run in one thread for each model.

    A task's `evaluate` requests logits several times. A thread that requests them waits at a barrier; the last one to arrive
    runs one forward pass of the joint model for all. All models are evaluated on the same rows, so every thread makes the same
    number of requests with the same offsets; otherwise the barrier would never fill.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.asked: list[tuple[Tensor, Sequence[int]]] = [(torch.empty(0), ())] * len(stack.models)
        self.answers: Sequence[Tensor] = ()
        self.all_here = threading.Barrier(len(stack.models), action=self._answer)

    def predict_of(self, replica: int) -> Predict:
        """Prediction function of one model: tokens `[batch, pos]` and offsets to logits `[batch, pos, offset, d_vocab]`."""

        def predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
            self.asked[replica] = (tokens, offsets)
            self.all_here.wait()
            return self.answers[replica]

        return predict

    def _answer(self) -> None:
        rows = torch.cat([tokens for tokens, _ in self.asked])
        with torch.no_grad():  # torch keeps the gradient mode for each thread
            self.answers = _logits(self.stack.joint, rows, self.asked[0][1]).chunk(len(self.asked))

    @contextlib.contextmanager
    def abandoned_on_error(self) -> Iterator[None]:
        """After an error in this block, break the barrier: the other threads raise BrokenBarrierError instead of waiting."""
        try:
            yield
        except BaseException:
            self.all_here.abort()
            raise


def _logits(model: MTPTransformer, tokens: Tensor, offsets: Sequence[int]) -> Tensor:
    device = tokens.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        return model(tokens, offsets)
