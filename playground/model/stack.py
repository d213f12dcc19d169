"""Several models of one shape trained side by side: many small matrix products become a few large ones.

`Stack(models).joint` is an `MTPTransformer` whose batch contains the rows of all models: first all rows of model 0, then all
rows of model 1, and so on. Its parameters have a leading replica dimension. Attention, positions, hook points and clamps work
row by row and are unchanged.

The models stay usable on their own: their parameters and gradients are views of the stacked ones. Each can be optimised,
probed, evaluated and stored like a single model.

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
from playground.model.layers import Norm, has_hooks, matrix_product
from playground.model.transformer import MTPTransformer


class Stack:
    """Models of one configuration, joined, with the attention patterns of `clamp`.

    The parameters of `models` become views of the stacked parameters: the stack and the models share their memory.
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
            else:  # without a gradient it is in no `StackedParameters`, but must share its memory with the joint model as well
                for replica, model in enumerate(models):
                    model.get_parameter(name).data = parameter.data[replica]
        self.matrices, self.vectors = (StackedParameters(self, learning[kind]) for kind in (True, False))
        names = {id(parameter): name for name, parameter in models[0].named_parameters()}
        for parameter, mask in frozen_slices(models[0], clamp or ClampConfig()):
            joint = self.joint.get_parameter(names[id(parameter)])
            if joint.requires_grad:
                joint.register_hook(_without(mask))

    def zero_grad(self) -> None:
        """Set all gradients to zero in place; the models' `grad` views stay valid."""
        for rows in self.gradients:
            rows.zero_()

    def add_gradients(self, total: Tensor) -> None:
        """Add the gradients of `total`, a scalar computed with the joint model, to those of every replica."""
        # Not total.backward(): it would fill the joint parameters' own .grad, which no replica's gradient is a view of.
        rows = (self.matrices, self.vectors)
        parameters = [self.joint.get_parameter(name) for each in rows for name in each.names]
        views = [view for each in rows for view in each.views(each.gradients)]
        found = cast(tuple[Tensor | None, ...], torch.autograd.grad(total, parameters, allow_unused=True))
        for view, slope in zip(views, found, strict=True):
            if slope is not None:
                view.add_(slope)

    @property
    def gradients(self) -> tuple[Float[Tensor, "replica number"], ...]:
        """All gradients, one row for each replica: those of the matrices, then those of the vectors."""
        return self.matrices.gradients, self.vectors.gradients


def norms_of_rows(gradients: Sequence[Float[Tensor, "replica _"]]) -> Float[Tensor, " replica"]:
    """Norm of the gradient of each replica, over all tensors together."""
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(rows, dim=1) for rows in gradients]), dim=0)


def clip_rows(
    gradients: Sequence[Float[Tensor, "replica _"]],
    limits: Float[Tensor, " replica"],
    norms: Float[Tensor, " replica"] | None = None,
) -> Float[Tensor, " replica"]:
    """Scale each replica's gradient in place so that its norm is at most its limit; returns the norms before scaling.

    With `norms`, the factor of replica r is limits[r] / norms[r] in place of limits[r] / the norm of `gradients`, at most 1.
    """
    norm_R = norms_of_rows(gradients) if norms is None else norms
    scale_R = (limits / (norm_R + 1e-6)).clamp(max=1.0)  # the formula of torch.nn.utils.clip_grad_norm_
    for rows in gradients:
        rows.mul_(scale_R[:, None])
    return norm_R


ALIGNED = 16
"""Each parameter starts at a multiple of this many elements, because vectorised kernels need aligned addresses."""


class StackedParameters:
    """Parameters of a stack in one tensor `[replica, number]`, and their gradients in another.

    An optimizer step or a clipping is then one operation. The parameters of the joint model and of each replica become views
    of these tensors.
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
        """Views `[replica, *shape]` of `rows`, one for each parameter in the order of `names`."""
        return [rows[:, start : start + shape.numel()].unflatten(1, shape) for start, shape in self._spans]


def _without(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient.masked_fill(mask, 0.0)


@torch.no_grad()
def _joined(models: list[MTPTransformer]) -> MTPTransformer:
    """A new model with the parameters of all `models` stacked along a leading replica dimension."""
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
    """A linear map with one matrix for each replica, `weight` `[replica, d_out, d_in]`."""

    def __init__(self, one: nn.Module, modules: Sequence[nn.Module]) -> None:
        nn.Module.__init__(self)  # not nn.Linear's: it would allocate and draw a weight
        linear = cast(nn.Linear, one)
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, None
        self.weight = _stacked(modules, "weight")

    def forward(self, input: Tensor) -> Tensor:
        return matrix_product(input, self.weight)


class StackedEmbedding(nn.Embedding):
    """An embedding with one table for each replica, `weight` `[replica, d_vocab, d_model]`."""

    def __init__(self, one: nn.Module, modules: Sequence[nn.Module]) -> None:
        nn.Module.__init__(self)
        table = cast(nn.Embedding, one)
        self.num_embeddings, self.embedding_dim, self.padding_idx = table.num_embeddings, table.embedding_dim, None
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = None, 2.0, False, False
        self.weight = _stacked(modules, "weight")

    def forward(self, input: Tensor) -> Tensor:
        replicas, d_vocab = self.weight.shape[:2]
        # One lookup in the concatenated tables: replica r's tokens are shifted by r d_vocab.
        first_R11 = d_vocab * torch.arange(replicas, device=input.device)[:, None, None]
        rows = (input.unflatten(0, (replicas, -1)) + first_R11).flatten(0, 1)
        return F.embedding(rows, self.weight.flatten(0, 1))


class StackedNorm(Norm):
    """A norm with one weight (and for LayerNorm one bias) for each replica, `[replica, d_model]`."""

    def __init__(self, one: nn.Module, modules: Sequence[nn.Module]) -> None:
        nn.Module.__init__(self)
        norm = cast(Norm, one)
        self.eps, self.centred = norm.eps, norm.centred
        self.weight = _stacked(modules, "weight")
        self.bias = _stacked(modules, "bias") if self.centred else None
        self.hook_scale, self.hook_normalized = norm.hook_scale, norm.hook_normalized

    def forward(self, resid: Tensor) -> Tensor:
        width = (resid.shape[-1],)
        if has_hooks(self.hook_scale, self.hook_normalized):
            normalized = self._explicit(resid)
        elif self.centred:
            normalized = F.layer_norm(resid, width, None, None, self.eps)
        else:
            normalized = F.rms_norm(resid, width, None, self.eps)
        scaled = normalized.unflatten(0, (len(self.weight), -1)) * self._per_row(self.weight, resid)
        return (scaled if self.bias is None else scaled + self._per_row(self.bias, resid)).flatten(0, 1)

    def _per_row(self, parameter_RD: Tensor, resid: Tensor) -> Tensor:
        """View `[replica, 1, .., 1, d_model]`, which broadcasts against `resid` unflattened to `[replica, batch, ..]`."""
        return parameter_RD.view(len(parameter_RD), *(1,) * (resid.ndim - 1), -1)


STACKED: dict[type[nn.Module], Callable[[nn.Module, Sequence[nn.Module]], nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.Embedding: StackedEmbedding,
    Norm: StackedNorm,
}
"""Module types that have parameters, each with its stacked version."""
