"""One optimizer step as one object: gradients, clipping, AdamW, for one model or for several side by side.

On CUDA a step is recorded once as a graph and replayed: hundreds of kernels are launched at once, and Python only hands in the
batch and the learning rates. `compiled` has torch.compile fuse the layers before. Both change how fast a step is and not what
it computes (up to the rounding of fused kernels); nothing in a step waits for the device.

Dimension letters: R replica, K offset.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from playground.config import OptimConfig, RunConfig
from playground.model.stack import Stack, clip_rows, norms_of_rows
from playground.model.transformer import MTPTransformer
from playground.training.cross_entropy import fused_cross_entropy
from playground.training.distributed import SharedLoss, add_up, whole
from playground.training.loss import LOSS, Losses, Weights, target_counts
from playground.training.optim import join_optimizers, own_counters
from playground.training.process_group import current_process_group
from playground.training.step_result import StepResult, loss_names
from tasks.base import Batch

WARM_UP = 3
"""Steps that run kernel by kernel before one is recorded: libraries set themselves up, and compilers compile."""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What a step needs to know of one replica."""

    model: MTPTransformer
    optimizer: torch.optim.Optimizer
    optim: OptimConfig


Step = Callable[[Sequence[Batch], Sequence[float]], StepResult]
"""From a batch and a learning rate for each replica: the losses `[replica, loss]` and the norm that `clip_by` names."""


def make_step(learners: Sequence[Learner], config: RunConfig, stack: Stack | None = None) -> Step:
    """A step for these replicas, in the way their device likes best.

    `config` is that of any of them: what differs between replicas is in `learners`. Their optimizers must come from
    `make_optimizer`, which makes learning rates tensors on CUDA. `stack` joins their models, where that has been done already.
    """
    step = PlainStep(learners, config, stack)
    on_cuda = learners[0].model.W_E.device.type == "cuda"
    return GraphedStep(step) if on_cuda and config.train.graphs and current_process_group() is None else step


class PlainStep:
    """The step, operation by operation."""

    def __init__(self, learners: Sequence[Learner], config: RunConfig, stack: Stack | None = None) -> None:
        self.learners, self.config = list(learners), config
        if stack is None and len(learners) > 1:
            stack = Stack([one.model for one in learners], config.clamp)
        self.stack = stack
        self.model = learners[0].model if self.stack is None else self.stack.joint
        self.device = learners[0].model.W_E.device
        self.loss = loss = LOSS[config.train.backward]
        self.weights: Weights = config.train.offset_weights
        self.names = loss_names(self.model.n_future)
        self.shared: SharedLoss | None = None
        if current_process_group() is not None:
            if self.stack is not None:
                raise ValueError("several models are trained by one process; train one, or start without torchrun")
            weighted = functools.partial(loss, weights=self.weights)
            self.shared = SharedLoss(self.model, weighted, learners[0].optimizer, config)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.limits = torch.tensor([one.optim.clip for one in learners], device=self.device)
        by_part = [one.optim.clip_by == "next_token" for one in learners]
        self.by_part = torch.tensor(by_part, device=self.device) if any(by_part) and self.model.n_future > 1 else None
        self.optimizers = [one.optimizer for one in learners]
        alike = len({dataclasses.replace(one.optim, clip=1.0, clip_by="all") for one in learners}) == 1
        if self.stack is not None and alike and not config.clamp.freeze_heads:  # those are undone after each own step
            self.optimizers = [join_optimizers(self.stack, self.optimizers, learners[0].optim)]
        else:
            for optimizer in self.optimizers:
                own_counters(optimizer)
        compiled = config.train.compiled and self.device.type == "cuda"
        self.layers = Compiled(self.model) if compiled else None
        self.clip_rows = torch.compile(clip_rows, dynamic=False) if compiled else clip_rows

    def __call__(self, batches: Sequence[Batch], rates: Sequence[float]) -> StepResult:
        self.set_rates(rates)
        return self.run(joined(batches))

    def set_rates(self, rates: Sequence[float]) -> None:
        """Learning rates of the next steps. Raises ValueError where replicas of equal settings get different ones."""
        if len(self.optimizers) < len(rates) and len(set(rates)) > 1:
            raise ValueError(f"replicas of equal settings learn at one rate, not at {sorted(set(rates))}")
        for optimizer, rate in zip(self.optimizers, rates, strict=False):
            set_learning_rate(optimizer, rate)

    def run(self, batch: Batch) -> StepResult:
        """The step on rows of all replicas, with the learning rates that are set."""
        self._zero_grad()
        if self.by_part is None:
            losses_RK = self._gradients(batch, self.weights)
            norms_R = self._clip(None)
        else:
            first, *others = self.weights or (1.0,) * self.model.n_future
            self._gradients(batch, (first, *(None for _ in others)))
            part_R = self._norms()
            losses_RK = self._gradients(batch, (None, *others))
            norms_R = self._clip(torch.where(self.by_part, part_R, self._norms()))
        for optimizer in self.optimizers:
            optimizer.step()
        return StepResult(names=self.names, losses=losses_RK, grad_norm=norms_R)

    def _norms(self) -> Float[Tensor, " replica"]:
        """Of the gradients so far, for each replica."""
        if self.stack is not None:
            return norms_of_rows(self.stack.gradients)
        return torch.nn.utils.get_total_norm([one.grad for one in self.parameters if one.grad is not None])[None]

    def _clip(self, norms: Float[Tensor, " replica"] | None) -> Float[Tensor, " replica"]:
        """Scale the gradients down by these norms, or by their own; returns the norms."""
        if self.stack is not None:
            return self.clip_rows(self.stack.gradients, self.limits, norms)
        if norms is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self.parameters, float(self.learners[0].optim.clip), norms[0], foreach=True
            )
            return norms
        return whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.learners[0].optim.clip, foreach=True))[None]

    def _gradients(self, batch: Batch, weights: Weights) -> Tensor:
        """Add the gradients of the loss, weighted so; the rows may go through in parts, and other processes may have more."""
        parts, replicas = self.config.train.accumulate, len(self.learners)
        if parts == 1 and self.shared is None:
            return self._backward(batch, None, weights)
        counts_RK = self._of_all(target_counts(batch, self.model.n_future, replicas))
        losses: list[Tensor] = []
        for number, part in enumerate(in_parts(batch, parts, replicas), start=1):
            with self.shared.reducing(number == parts) if self.shared else contextlib.nullcontext():
                losses.append(self._backward(part, counts_RK, weights))
        return self._of_all(torch.stack(losses).sum(dim=0))

    def _of_all(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, where there are several."""
        return add_up(numbers) if self.shared else numbers

    def _backward(self, batch: Batch, counts: Tensor | None, weights: Weights) -> Tensor:
        device = self.device.type
        with self.layers.used() if self.layers else contextlib.nullcontext():
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                if self.shared is None:
                    losses: Losses = self.loss(self.model, batch, counts, weights)
                else:
                    losses = self.shared(batch, counts)
            if self.stack is not None:
                self.stack.add_gradients(losses.total)
            else:
                losses.total.backward()
        return losses.each

    def _zero_grad(self) -> None:
        if self.stack is not None:
            self.stack.zero_grad()
        else:
            self.optimizers[0].zero_grad(set_to_none=True)


class GraphedStep:
    """The same step as a CUDA graph. The first few steps run kernel by kernel, on a stream of their own."""

    def __init__(self, step: PlainStep) -> None:
        self.step, self.done = step, 0
        self.stream = torch.cuda.Stream(step.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Batch
        self.read: StepResult

    def __call__(self, batches: Sequence[Batch], rates: Sequence[float]) -> StepResult:
        self.step.set_rates(rates)
        if self.done < WARM_UP:
            self.done += 1
            return self._warm_up(joined(batches))
        if self.graph is None:
            self.batch = joined([_copy(batch) for batch in batches])
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.read = self.step.run(self.batch)
        _fill(self.batch, batches)
        self.graph.replay()
        return self.read.clone()

    def _warm_up(self, batch: Batch) -> StepResult:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            read = self.step.run(batch)
        torch.cuda.current_stream().wait_stream(self.stream)
        return read


_CALL = "_compiled_call_impl"
"""What nn.Module.compile sets, and a module's call looks at."""


class Compiled:
    """Layers and final norm, compiled for training; whoever else runs the model runs the plain ones, hooks and all."""

    def __init__(self, model: MTPTransformer) -> None:
        _compile_any_number_of_shapes()
        self.layers: list[nn.Module] = [*model.blocks, *model.future_heads, model.ln_final]
        calls = [getattr(layer, "_call_impl") for layer in self.layers]  # noqa: B009
        self.calls = [torch.compile(call, dynamic=False) for call in (*calls[:-1], _in_half(calls[-1]))]

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Calls of the layers are the compiled ones in here."""
        for layer, call in zip(self.layers, self.calls, strict=True):
            setattr(layer, _CALL, call)
        try:
            with fused_cross_entropy():
                yield
        finally:
            for layer in self.layers:
                setattr(layer, _CALL, None)


def _in_half(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The final norm's output is read by products in half precision alone: nobody need write it in full."""
    return lambda resid: call(resid).to(torch.bfloat16)


def _compile_any_number_of_shapes() -> None:
    """torch gives up on compiling a function after eight shapes; all layers of all trainings of a process are one function."""
    limits = torch._dynamo.config  # pyright: ignore[reportPrivateUsage]  # nowhere else
    for name, least in (("recompile_limit", 512), ("accumulated_recompile_limit", 4096)):
        if hasattr(limits, name):  # they had other names before
            setattr(limits, name, max(getattr(limits, name), least))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For all parameters; where the rate is a tensor, it stays the same tensor."""
    present = optimizer.param_groups[0]["lr"]
    if isinstance(present, Tensor):
        present.fill_(rate)  # all groups have the same one
        return
    for group in optimizer.param_groups:
        group["lr"] = rate


MODEL_FIELDS = ("tokens", "loss_mask", "documents")
"""What of a batch the loss reads."""


def joined(batches: Sequence[Batch]) -> Batch:
    """The rows of all replicas, one after another."""
    if len(batches) == 1:
        return batches[0]
    return _batch(*(torch.cat([getattr(batch, name) for batch in batches]) for name in MODEL_FIELDS))


def in_parts(batch: Batch, parts: int, replicas: int) -> Iterator[Batch]:
    """Equal parts of the rows of every replica."""
    fields = [getattr(batch, name).unflatten(0, (replicas, parts, -1)) for name in MODEL_FIELDS]
    for part in range(parts):
        yield _batch(*(rows[:, part].flatten(0, 1) for rows in fields))


def _batch(tokens: Tensor, loss_mask: Tensor, documents: Tensor) -> Batch:
    return Batch(tokens=tokens, loss_mask=loss_mask, documents=documents, score_mask=loss_mask)


def _copy(batch: Batch) -> Batch:
    return _batch(*(getattr(batch, name).clone() for name in MODEL_FIELDS))


def _fill(target: Batch, batches: Sequence[Batch]) -> None:
    copy_all = torch._foreach_copy_  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  # in one kernel
    for name in MODEL_FIELDS:
        copy_all(getattr(target, name).chunk(len(batches)), [getattr(batch, name) for batch in batches])
