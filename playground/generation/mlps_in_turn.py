"""Drafter for MLPs that run one after another, each on the stream before it and the token drafted before.

Dimension letters: K offset, V d_vocab; the width of the stream is the last dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playground.generation.drafting import Choose, Commit, MakeView, Memory
from playground.model.layers import Norm
from playground.model.transformer import MTPTransformer

SMALL_VOCABULARY = 4096
"""Largest vocabulary for which each token's contribution to the MLPs is precomputed as a table."""


@dataclass(frozen=True, kw_only=True)
class TokenMlp:
    """The parts of a head that computes resid + out(SiLU(gate) * linear).

    Gate and linear are the halves of `gate_in` [ln_resid(resid); ln_embed(embedding)].
    """

    ln_resid: Norm
    ln_embed: Norm
    gate_in: nn.Linear
    out: nn.Linear

    @classmethod
    def of(cls, head: nn.Module) -> "TokenMlp":
        """The parts of a head, by their names. Raises AttributeError for a head that has no such parts."""
        found = {name: head.get_submodule(name) for name in ("ln_resid", "ln_embed", "gate_in", "out")}
        return cls(**cast(dict[str, Any], found))


class MlpsInTurn:
    """Drafter for MLPs that read the stream after the previous head and the token drafted from it.

    They run one after another, so the number of kernels decides the time. The final norm and the next head's norm differ only
    in their weights; with the weights folded into the matrices that follow, one product of the normalised stream gives both an
    offset's logits and the next head's hidden layer. The contribution of a token depends on nothing else; if the vocabulary is
    small, it is looked up in a table.
    """

    def __init__(self, model: MTPTransformer, speculative: int, memory: Memory) -> None:
        self.model, self.offsets = model, range(2, speculative + 1)
        self.d_vocab, self.ln = model.W_E.shape[0], model.ln_final
        heads = [TokenMlp.of(model.future_heads[k - 1]) for k in self.offsets]
        self.outs = [head.out for head in heads]
        with torch.no_grad():
            into = [_folded(head.ln_resid, head.gate_in.weight[:, : model.config.d_model]) for head in heads]
            unembed = [_folded(model.ln_final, model.unembed_of(k).weight.to(model.W_E.dtype)) for k in self.offsets]
            self.first = into[0]
            self.both = [_joined(*pair) for pair in zip(unembed, [*into[1:], None], strict=True)]
            self.of_token = [self._token_reader(model, head) for head in heads]

    def _token_reader(self, model: MTPTransformer, head: TokenMlp) -> Callable[[Tensor], Tensor]:
        """A function from tokens `[token]` to their contribution `[token, 2 d_mlp]` to a head's hidden layer."""
        weight = head.gate_in.weight[:, model.config.d_model :].contiguous()

        def read(token: Tensor) -> Tensor:
            return F.linear(head.ln_embed(model.embed(token)), weight)

        if self.d_vocab > SMALL_VOCABULARY:
            return read
        table = read(torch.arange(self.d_vocab, device=weight.device))
        return lambda token: table[token]

    def logits(self, commit: Commit, view: MakeView, choose: Choose) -> Tensor:
        resid, token = commit.at_last(commit.streams[0]), commit.own
        hidden = F.linear(self._normalized(resid), *self.first)
        found: list[Tensor] = []
        for k, out, both, of_token in zip(self.offsets, self.outs, self.both, self.of_token, strict=True):
            gate, linear = (hidden + of_token(token)).chunk(2, dim=-1)
            resid = resid + out(F.silu(gate) * linear)
            read = F.linear(self._normalized(resid), *both)
            found.append(read[:, : self.d_vocab].float())
            hidden = read[:, self.d_vocab :]
            token = choose(found[-1], k)
        return torch.stack(found, dim=1)

    def keep(self, rows: Tensor) -> None:
        """Nothing is stored of earlier tokens."""

    def _normalized(self, resid: Tensor) -> Tensor:
        """The normalised residual stream, before the norm's weight and bias."""
        if self.ln.centred:
            return F.layer_norm(resid, resid.shape[-1:], None, None, self.ln.eps)
        return F.rms_norm(resid, resid.shape[-1:], None, self.ln.eps)


Linear = tuple[Tensor, Tensor | None]
"""Weight `[output, input]` and bias of a linear map."""


def _folded(norm: Norm, weight: Tensor) -> Linear:
    """The linear map `weight` after a norm, as a linear map of the normalised stream (the norm's weight and bias folded in)."""
    scale = norm.weight.to(weight.dtype)
    return weight * scale, None if norm.bias is None else weight @ norm.bias.to(weight.dtype)


def _joined(one: Linear, other: Linear | None) -> Linear:
    """Both maps as one, with concatenated outputs; the first alone if `other` is None."""
    if other is None:
        return one
    bias = None if one[1] is None or other[1] is None else torch.cat((one[1], other[1]))
    return torch.cat((one[0], other[0])), bias
