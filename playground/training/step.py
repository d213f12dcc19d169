"""One optimizer step as one object: gradients, clipping, AdamW, for one model or for several side by side.

On CUDA a step is recorded once as a CUDA graph and replayed: one launch replaces hundreds, and Python only copies in the batch
and the learning rates. With `compiled`, torch.compile fuses the layers first. Both change the speed of a step and not its
result, up to the rounding of fused kernels. No operation of a step waits for the device.

Dimension letters: R replica, L loss (its index in the names of the objective).
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
from playground.training.objectives.base import Losses, Weights
from playground.training.objectives.registry import objective_of
from playground.training.optim import join_optimizers, own_counters
from playground.training.process_group import current_process_group
from playground.training.step_result import StepResult
from tasks.base import Batch

WARM_UP = 3
"""Training steps that run kernel by kernel before one is recorded.

In them libraries allocate workspaces, torch.compile compiles and AdamW creates its state; none of this can be recorded."""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """One replica in a step: its model, its optimizer and the settings of the optimizer."""

    model: MTPTransformer
    optimizer: torch.optim.Optimizer
    optim: OptimConfig


Step = Callable[[Sequence[Batch], Sequence[float]], StepResult]
"""From one batch and one learning rate for each replica to the losses `[replica, loss]` and gradient norms `[replica]`."""


def make_step(learners: Sequence[Learner], config: RunConfig, stack: Stack | None = None) -> Step:
    """A step for these replicas: a CUDA graph on CUDA with `config.train.graphs`, in one process; else a plain step.

    `config` is the configuration of any replica; what differs between replicas is in `learners`. Their optimizers must come
    from `make_optimizer`, which makes learning rates tensors on CUDA. `stack` is their models already joined, if there is one.
    """
    step = PlainStep(learners, config, stack)
    on_cuda = learners[0].model.W_E.device.type == "cuda"
    graphs = config.train.graphs and "graphs" not in step.objective.cannot
    return GraphedStep(step) if on_cuda and graphs and current_process_group() is None else step


class PlainStep:
    """The step as a sequence of torch operations: the definition that GraphedStep must reproduce.

    Raises ValueError for several replicas under torchrun, and for what the objective cannot train.
    """

    def __init__(self, learners: Sequence[Learner], config: RunConfig, stack: Stack | None = None) -> None:
        self.learners, self.config = list(learners), config
        if stack is None and len(learners) > 1:
            stack = Stack([one.model for one in learners], config.clamp)
        self.stack = stack
        self.model = learners[0].model if self.stack is None else self.stack.joint
        self.device = learners[0].model.W_E.device
        group = current_process_group()
        self.objective = objective = objective_of(config.train)
        objective.check(config, replicas=len(learners), processes=group.size if group else 1)
        self.loss = loss = objective.loss(config.train.backward)
        self.names = objective.loss_names(self.model.n_future)
        self.weights: Weights = config.train.offset_weights or objective.weights(self.model.n_future)
        self.shared: SharedLoss | None = None
        if group is not None:
            if self.stack is not None:
                raise ValueError("several models are trained by one process; train one, or start without torchrun")
            weighted = functools.partial(loss, weights=self.weights)
            self.shared = SharedLoss(self.model, weighted, learners[0].optimizer, config)
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.limits = torch.tensor([one.optim.clip for one in learners], device=self.device)
        by_part = [one.optim.clip_by == "next_token" for one in learners]
        self.by_part = torch.tensor(by_part, device=self.device) if any(by_part) and len(self.names) > 1 else None
        self.optimizers = [one.optimizer for one in learners]
        alike = len({dataclasses.replace(one.optim, clip=1.0, clip_by="all") for one in learners}) == 1
        # Not one optimizer for all with frozen heads: hooks on the steps of the own optimizers restore these heads.
        if self.stack is not None and alike and not config.clamp.freeze_heads:
            self.optimizers = [join_optimizers(self.stack, self.optimizers, learners[0].optim)]
        else:
            for optimizer in self.optimizers:  # a joint optimizer may have left shared counters
                own_counters(optimizer)
        compiled = config.train.compiled and self.device.type == "cuda"
        self.layers = Compiled(self.model) if compiled else None
        self.clip_rows = torch.compile(clip_rows, dynamic=False) if compiled else clip_rows

    def __call__(self, batches: Sequence[Batch], rates: Sequence[float]) -> StepResult:
        self.set_rates(rates)
        return self.run(joined(batches))

    def set_rates(self, rates: Sequence[float]) -> None:
        """Set the learning rates of the next steps. Raises ValueError if rates differ but one joint optimizer is used."""
        if len(self.optimizers) < len(rates) and len(set(rates)) > 1:
            raise ValueError(f"replicas of equal settings learn at one rate, not at {sorted(set(rates))}")
        for optimizer, rate in zip(self.optimizers, rates, strict=False):
            set_learning_rate(optimizer, rate)

    def run(self, batch: Batch) -> StepResult:
        """One step on the rows of all replicas, with the present learning rates. GraphedStep records exactly this function."""
        self._zero_grad()
        if self.by_part is None:
            losses_RL = self._gradients(batch, self.weights)
            norms_R = self._clip(None)
        else:
            # Two backward passes over the same rows: after the first, the gradients are those of offset 1 alone, whose norm
            # limits the step; the second adds those of the other losses.
            first, *others = self.weights or (1.0,) * len(self.names)
            self._gradients(batch, (first, *(None for _ in others)))
            part_R = self._norms()
            losses_RL = self._gradients(batch, (None, *others))
            norms_R = self._clip(torch.where(self.by_part, part_R, self._norms()))
        for optimizer in self.optimizers:
            optimizer.step()
        return StepResult(names=self.names, losses=losses_RL, grad_norm=norms_R)

    def _norms(self) -> Float[Tensor, " replica"]:
        """Norms of the present gradients, one for each replica."""
        if self.stack is not None:
            return norms_of_rows(self.stack.gradients)
        return torch.nn.utils.get_total_norm([one.grad for one in self.parameters if one.grad is not None])[None]

    def _clip(self, norms: Float[Tensor, " replica"] | None) -> Float[Tensor, " replica"]:
        """Clip the gradients as if `norms` were their norms; None: by their own norms. Returns the norms used."""
        if self.stack is not None:
            return self.clip_rows(self.stack.gradients, self.limits, norms)
        if norms is not None:
            torch.nn.utils.clip_grads_with_norm_(
                self.parameters, float(self.learners[0].optim.clip), norms[0], foreach=True
            )
            return norms
        return whole(torch.nn.utils.clip_grad_norm_(self.parameters, self.learners[0].optim.clip, foreach=True))[None]

    def _gradients(self, batch: Batch, weights: Weights) -> Tensor:
        """Add the gradients of the loss with these weights; returns the losses `[replica, loss]` of the whole batch.

        The whole batch may be split into parts (`accumulate`), and the other processes may have further rows of it.
        """
        parts, replicas = self.config.train.accumulate, len(self.learners)
        if parts == 1 and self.shared is None:
            return self._backward(batch, None, weights)
        # Every part divides by the denominators of the whole batch: losses and gradients of the parts add up to its own.
        counts_RL = self._of_all(self.objective.counts(batch, self.model.n_future, replicas))
        losses: list[Tensor] = []
        for number, part in enumerate(in_parts(batch, parts, replicas), start=1):
            with self.shared.reducing(number == parts) if self.shared else contextlib.nullcontext():
                losses.append(self._backward(part, counts_RL, weights))
        return self._of_all(torch.stack(losses).sum(dim=0))

    def _of_all(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, or `numbers` itself if there is one process."""
        return add_up(numbers) if self.shared else numbers

    def _backward(self, batch: Batch, counts: Tensor | None, weights: Weights) -> Tensor:
        """Forward and backward pass of one part of a batch; returns its losses `[replica, loss]`, detached."""
        device = self.device.type
        with self.layers.used() if self.layers else contextlib.nullcontext():
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                if self.shared is None:
                    losses: Losses = self.loss(self.model, batch, counts, weights)
                else:
                    # `shared` has the weights already: with several processes clip_by is "all", so `weights` are the run's.
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
    """A PlainStep recorded as a CUDA graph after WARM_UP plain steps, and replayed for every further step.

    A replay repeats the recorded kernels at the recorded addresses. Shapes, parameters and gradients must therefore stay where
    they are, and all that changes between steps must be written into recorded tensors: batches by `_fill`, learning rates by
    `set_learning_rate`.
    """

    def __init__(self, step: PlainStep) -> None:
        self.step, self.done = step, 0
        self.stream = torch.cuda.Stream(step.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Batch
        """Rows that the graph reads."""
        self.read: StepResult
        """Tensors that the graph writes; each replay overwrites them."""

    def __call__(self, batches: Sequence[Batch], rates: Sequence[float]) -> StepResult:
        self.step.set_rates(rates)
        if self.done < WARM_UP:
            self.done += 1
            return self._warm_up(joined(batches))
        if self.graph is None:
            # Copies, because the graph needs rows that no other code frees or changes. Recording runs no kernel: the step on
            # these batches is the replay below.
            self.batch = joined([_copy(batch) for batch in batches])
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.read = self.step.run(self.batch)
        _fill(self.batch, batches)
        self.graph.replay()
        return self.read.clone()

    def _warm_up(self, batch: Batch) -> StepResult:
        """A plain step on a side stream, required before recording (torch's notes on CUDA graphs, whole-network capture)."""
        self.stream.wait_stream(torch.cuda.current_stream())  # wait until the batch is drawn
        with torch.cuda.stream(self.stream):
            read = self.step.run(batch)
        torch.cuda.current_stream().wait_stream(self.stream)  # observers then read the finished step
        return read


_CALL = "_compiled_call_impl"
"""Attribute that nn.Module.compile sets, which a module's call uses instead of its forward unless None."""


class Compiled:
    """Layers and final norm compiled for training steps. Outside of `used()` the plain ones run, with their hooks."""

    def __init__(self, model: MTPTransformer) -> None:
        _compile_any_number_of_shapes()
        self.layers: list[nn.Module] = [*model.blocks, *model.future_heads, model.ln_final]
        calls = [getattr(layer, "_call_impl") for layer in self.layers]  # noqa: B009
        self.calls = [torch.compile(call, dynamic=False) for call in (*calls[:-1], _in_half(calls[-1]))]

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Inside this block calls of the layers run compiled, and so does the cross-entropy."""
        for layer, call in zip(self.layers, self.calls, strict=True):
            setattr(layer, _CALL, call)
        try:
            with fused_cross_entropy():
                yield
        finally:
            for layer in self.layers:
                setattr(layer, _CALL, None)


def _in_half(call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The final norm with output in bfloat16: only the unembedding reads it, in half precision, so float32 is not needed."""
    return lambda resid: call(resid).to(torch.bfloat16)


def _compile_any_number_of_shapes() -> None:
    """Raise torch's limits of recompilations for each function.

    By default torch runs a function uncompiled after eight compilations, and all layers of all trainings in a process are one
    function.
    """
    limits = torch._dynamo.config  # pyright: ignore[reportPrivateUsage]  # nowhere else
    for name, least in (("recompile_limit", 512), ("accumulated_recompile_limit", 4096)):
        if hasattr(limits, name):  # older versions of torch use other names
            setattr(limits, name, max(getattr(limits, name), least))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of all parameter groups. A tensor is filled in place, because a CUDA graph reads its address."""
    present = optimizer.param_groups[0]["lr"]
    if isinstance(present, Tensor):
        present.fill_(rate)  # all groups share this tensor
        return
    for group in optimizer.param_groups:
        group["lr"] = rate


MODEL_FIELDS = ("tokens", "loss_mask", "documents")
"""Fields of a batch that the loss reads; a CUDA graph copies only these."""


def joined(batches: Sequence[Batch]) -> Batch:
    """One batch with the rows of all replicas: first all rows of replica 0, then those of replica 1, and so on."""
    if len(batches) == 1:
        return batches[0]
    return _batch(*(torch.cat([getattr(batch, name) for batch in batches]) for name in MODEL_FIELDS))


def in_parts(batch: Batch, parts: int, replicas: int) -> Iterator[Batch]:
    """`parts` batches, each with an equal part of every replica's rows. Raises RuntimeError for an uneven division."""
    fields = [getattr(batch, name).unflatten(0, (replicas, parts, -1)) for name in MODEL_FIELDS]
    for part in range(parts):
        yield _batch(*(rows[:, part].flatten(0, 1) for rows in fields))


def _batch(tokens: Tensor, loss_mask: Tensor, documents: Tensor) -> Batch:
    return Batch(tokens=tokens, loss_mask=loss_mask, documents=documents, score_mask=loss_mask)  # the last is not read


def _copy(batch: Batch) -> Batch:
    """A batch in memory of its own, with the fields that the loss reads."""
    return _batch(*(getattr(batch, name).clone() for name in MODEL_FIELDS))


def _fill(target: Batch, batches: Sequence[Batch]) -> None:
    """Copy the rows of all replicas into `target`, in the order of `joined`."""
    copy_all = torch._foreach_copy_  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]  # in one kernel
    for name in MODEL_FIELDS:
        copy_all(getattr(target, name).chunk(len(batches)), [getattr(batch, name) for batch in batches])
