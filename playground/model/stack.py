"""Several models of one shape side by side: many small matrix products become few large ones.

`Stack(models).joint` is a model of the same class whose batch holds the rows of all of them, those of the first before those of
the second; only its parameters differ, which have a leading dimension for the replica. Everything between the parameters
(attention, positions, hook points, clamps) works on rows and need not know.

The models go on to be ordinary ones: their parameters and gradients are views of the stacked ones. So each has its own
optimizer, is probed, evaluated and stored as if it stood alone.

Dimension letters: R replica, B batch of one replica, T position, D d_model, V d_vocab.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from playground.config import ClampConfig
from playground.model.clamp import apply_clamp, frozen_slices
from playground.model.layers import Norm, listened, matrix_product
from playground.model.transformer import MTPTransformer


class Stack:
    """Models of one configuration, joined. `clamp` is what they are held by.

    Raises ValueError for models of different configurations.
    """

    def __init__(self, models: Sequence[MTPTransformer], clamp: ClampConfig | None = None) -> None:
        if any(model.config != models[0].config for model in models):
            raise ValueError("models of different configurations cannot be stacked; train them one after another")
        self.models = list(models)
        self.joint = _joined(self.models)
        apply_clamp(self.joint, clamp or ClampConfig())
        learning: dict[bool, list[str]] = {True: [], False: []}
        for name, parameter in self.joint.named_parameters():
            own = models[0].get_parameter(name)
            parameter.requires_grad_(own.requires_grad)
            if own.requires_grad:
                learning[own.ndim >= 2].append(name)
            else:
                for replica, model in enumerate(models):
                    model.get_parameter(name).data = parameter.data[replica]
        self.matrices, self.vectors = (Rows(self, learning[kind]) for kind in (True, False))
        names = {id(parameter): name for name, parameter in models[0].named_parameters()}
        for parameter, mask in frozen_slices(models[0], clamp or ClampConfig()):
            joint = self.joint.get_parameter(names[id(parameter)])
            if joint.requires_grad:
                joint.register_hook(_without(mask))

    def zero_grad(self) -> None:
        """Set all gradients to zero; they stay where they are."""
        for rows in self.gradients:
            rows.zero_()

    def add_gradients(self, total: Tensor) -> None:
        """Add the gradients of `total`, which was computed with the joint model."""
        rows = (self.matrices, self.vectors)
        parameters = [self.joint.get_parameter(name) for each in rows for name in each.names]
        views = [view for each in rows for view in each.views(each.gradients)]
        found = cast(tuple[Tensor | None, ...], torch.autograd.grad(total, parameters, allow_unused=True))
        for view, slope in zip(views, found, strict=True):
            if slope is not None:
                view.add_(slope)

    @property
    def gradients(self) -> tuple[Float[Tensor, "replica number"], ...]:
        """All gradients."""
        return self.matrices.gradients, self.vectors.gradients


def norms_of_rows(gradients: Sequence[Float[Tensor, "replica _"]]) -> Float[Tensor, " replica"]:
    """The norm of each model's gradient."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(rows, dim=1) for rows in gradients]), dim=0)


def clip_rows(
    gradients: Sequence[Float[Tensor, "replica _"]],
    limits: Float[Tensor, " replica"],
    norms: Float[Tensor, " replica"] | None = None,
) -> Float[Tensor, " replica"]:
    """Scale each model's gradient by what its norm, or that of `norms`, takes to come down to its limit; returns the norms."""
    norm_R = norms_of_rows(gradients) if norms is None else norms
    scale_R = (limits / (norm_R + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ has it
    for rows in gradients:
        rows.mul_(scale_R[:, None])
    return norm_R


ALIGNED = 16
"""Parameters begin at multiples of so many numbers: kernels read several at once."""


class Rows:
    """Parameters of a stack in one tensor, with a row for each replica, and their gradients in another.

    So what is done to all of them is one operation. The parameters of the joint model and of each replica become views.
    """

    def __init__(self, stack: Stack, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._spans: list[tuple[int, torch.Size]] = []
        width = 0
        for name in names:
            shape = stack.models[0].get_parameter(name).shape
            self._spans.append((width, shape))
            width += -(-shape.numel() // ALIGNED) * ALIGNED
        like = stack.models[0].W_E.detach()
        self.values = nn.Parameter(like.new_zeros(len(stack.models), width))
        self.gradients = torch.zeros_like(self.values)
        self.values.grad = self.gradients
        views = zip(self.views(self.values.detach()), self.views(self.gradients), strict=True)
        for name, (values, gradients) in zip(names, views, strict=True):
            joint = stack.joint.get_parameter(name)
            joint.data = values.copy_(joint.detach())
            for replica, model in enumerate(stack.models):
                own = model.get_parameter(name)
                own.data, own.grad = values[replica], gradients[replica]

    def views(self, rows: Float[Tensor, "replica number"]) -> list[Tensor]:
        """Each parameter's part of such a tensor, `[replica, *shape]`."""
        return [rows[:, start : start + shape.numel()].unflatten(1, shape) for start, shape in self._spans]


def _without(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient.masked_fill(mask, 0.0)


@torch.no_grad()
def _joined(models: list[MTPTransformer]) -> MTPTransformer:
    """A model with the parameters of all, stacked."""
    joint = MTPTransformer(models[0].config).to(models[0].W_E.device)
    for name, module in list(joint.named_modules()):
        kind = STACKED.get(type(module))
        if kind is not None:
            stacked = kind(module, [model.get_submodule(name) for model in models])
            joint.get_submodule(name.rpartition(".")[0]).register_module(name.rpartition(".")[2], stacked)
    joint.setup()
    return joint


def _stacked(modules: Sequence[nn.Module], name: str) -> nn.Parameter:
    return nn.Parameter(torch.stack([module.get_parameter(name).detach() for module in modules]))


class StackedLinear(nn.Linear):
    """A matrix for each replica."""

    def __init__(self, one: nn.Module, modules: Sequence[nn.Module]) -> None:
        nn.Module.__init__(self)
        linear = cast(nn.Linear, one)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, None
        self.weight = _stacked(modules, "weight")

    def forward(self, input: Tensor) -> Tensor:
        return matrix_product(input, self.weight)


class StackedEmbedding(nn.Embedding):
    """A table for each replica."""

    def __init__(self, one: nn.Module, modules: Sequence[nn.Module]) -> None:
        nn.Module.__init__(self)
        table = cast(nn.Embedding, one)
        self.num_embeddings, self.embedding_dim, self.padding_idx = table.num_embeddings, table.embedding_dim, None
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = None, 2.0, False, False
        self.weight = _stacked(modules, "weight")

    def forward(self, input: Tensor) -> Tensor:
        replicas, d_vocab = self.weight.shape[:2]
        first_R11 = d_vocab * torch.arange(replicas, device=input.device)[:, None, None]
        rows = (input.unflatten(0, (replicas, -1)) + first_R11).flatten(0, 1)
        return F.embedding(rows, self.weight.flatten(0, 1))


class StackedNorm(Norm):
    """A weight (and a bias) for each replica."""

    def __init__(self, one: nn.Module, modules: Sequence[nn.Module]) -> None:
        nn.Module.__init__(self)
        norm = cast(Norm, one)
        self.eps, self.centred = norm.eps, norm.centred
        self.weight = _stacked(modules, "weight")
        self.bias = _stacked(modules, "bias") if self.centred else None
        self.hook_scale, self.hook_normalized = norm.hook_scale, norm.hook_normalized

    def forward(self, resid: Tensor) -> Tensor:
        width = (resid.shape[-1],)
        if listened(self.hook_scale, self.hook_normalized):
            normalized = self._explicit(resid)
        elif self.centred:
            normalized = F.layer_norm(resid, width, None, None, self.eps)
        else:
            normalized = F.rms_norm(resid, width, None, self.eps)
        scaled = normalized.unflatten(0, (len(self.weight), -1)) * self._per_row(self.weight, resid)
        return (scaled if self.bias is None else scaled + self._per_row(self.bias, resid)).flatten(0, 1)

    def _per_row(self, parameter_RD: Tensor, resid: Tensor) -> Tensor:
        """`[replica, 1, .., 1, d_model]`, to go with `resid` unflattened."""
        return parameter_RD.view(len(parameter_RD), *(1,) * (resid.ndim - 1), -1)


STACKED: dict[type[nn.Module], Callable[[nn.Module, Sequence[nn.Module]], nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Embedding: StackedEmbedding,
    Norm: StackedNorm,
}
"""The modules that have parameters, and what stands in for them."""
