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
        self._parameters = dict(self.joint.named_parameters())
        for name, parameter in self._parameters.items():
            own = [model.get_parameter(name) for model in models]
            parameter.requires_grad_(own[0].requires_grad)
            for replica, one in enumerate(own):
                one.data = parameter.data[replica]
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
                for replica, one in enumerate(own):
                    one.grad = parameter.grad[replica]
        names = {id(parameter): name for name, parameter in models[0].named_parameters()}
        for parameter, mask in frozen_slices(models[0], clamp or ClampConfig()):
            joint = self._parameters[names[id(parameter)]]
            if joint.requires_grad:
                joint.register_hook(_without(mask))

    def zero_grad(self) -> None:
        """Set all gradients to zero; they stay where they are."""
        for parameter in self._parameters.values():
            if parameter.grad is not None:
                parameter.grad.zero_()


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
    nn.Linear: StackedLinear, nn.Embedding: StackedEmbedding, Norm: StackedNorm,
}  # fmt: skip
"""The modules that have parameters, and what stands in for them."""
