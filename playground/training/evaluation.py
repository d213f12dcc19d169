"""A model, made ready for a task's `evaluate`: evaluation mode, no gradients, the training precision."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from tasks.base import Evaluation, Predict, Task


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
        return _logits(model, tokens, offsets)

    with evaluating(model):
        return task.evaluate(predict, n_future=model.n_future, device=device, full=full)


def evaluate_together(
    models: Sequence[MTPTransformer], task: Task, stack: Stack | None, *, full: bool = False
) -> list[Evaluation]:
    """`evaluate` of each model; those in a stack run as one."""
    if stack is None:
        return [evaluate(model, task, full=full) for model in models]
    model, device = models[0], models[0].W_E.device
    together = _Lockstep(stack)

    def one(replica: int) -> Evaluation:
        with together.abandoned_on_error(), torch.no_grad():
            predict = together.predict_of(replica)
            return task.evaluate(predict, n_future=model.n_future, device=device, full=full)

    with evaluating(stack.joint), ThreadPoolExecutor(len(models)) as pool:
        evaluations = [pool.submit(one, replica) for replica in range(len(models))]
    for evaluation in evaluations:
        error = evaluation.exception()
        if error is not None and not isinstance(
            error, threading.BrokenBarrierError
        ):  # those waited for one that failed
            raise error
    return [evaluation.result() for evaluation in evaluations]


class _Lockstep:
    """A model's evaluation asks for logits again and again. Here each model's is a thread, and when all have asked, one
    forward of the joint model answers them: they evaluate on the same rows, and so ask equally often."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.asked: list[tuple[Tensor, Sequence[int]]] = [(torch.empty(0), ())] * len(stack.models)
        self.answers: Sequence[Tensor] = ()
        self.all_here = threading.Barrier(len(stack.models), action=self._answer)

    def predict_of(self, replica: int) -> Predict:
        """What one model's evaluation asks."""

        def predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
            self.asked[replica] = (tokens, offsets)
            self.all_here.wait()
            return self.answers[replica]

        return predict

    def _answer(self) -> None:
        rows = torch.cat([tokens for tokens, _ in self.asked])
        with torch.no_grad():  # each thread has its own mode
            self.answers = _logits(self.stack.joint, rows, self.asked[0][1]).chunk(len(self.asked))

    @contextlib.contextmanager
    def abandoned_on_error(self) -> Iterator[None]:
        """Nobody waits for a thread that has broken off."""
        try:
            yield
        except BaseException:
            self.all_here.abort()
            raise


def _logits(model: MTPTransformer, tokens: Tensor, offsets: Sequence[int]) -> Tensor:
    device = tokens.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        return model(tokens, offsets)
