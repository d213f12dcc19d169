"""Circuits through the COMPLETE later layers: attention, MLP and norms, in place of the OV matrix of a single head.

The linear circuit of a trunk head (playground/probes/token_circuits.py) either skips the future head's layer or uses the OV of
one of its attention heads. Here, for every source token a,

1. the heads of the path write a vector y_a; each reads, through its own norm, the output of the one before it (the first one
   reads the embedding), as if it attended to that alone;
2. y_a runs through everything after the last head of the path: the MLP of that head's layer, the later layers of the trunk,
   future head k (and others on its path), final norm and unembedding, with all their nonlinearities: a function f;
3. row a of the circuit is f(background + y_a) - f(background), in logits.

The approximations are exactly these:

- Later attention heads attend to the position itself alone: a row of one token. In a real row they may attend elsewhere, and
  other positions to this one.
- The residual stream holds the background and y_a, but neither the token at the position nor the output of other heads. A norm
  divides by the size of that stream. With a zero background, the default, a small y_a is scaled up to full size, and the
  output of later layers has more weight relative to it than in a real row. A typical stream as the background (for example the
  mean over the positions of some rows) corrects for that.
- No position embedding; rotary positions do not rotate at distance 0.

Dimension letters: N chosen tokens, D d_model, V d_vocab.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from playground.model.transformer import MTPTransformer
from playground.probes.quiet import quietly
from playground.probes.token_circuits import choose_tokens, token_circuit
from playground.probes.weights import block_of, check_path
from playground.results import Head, TokenCircuit

MOST_TOKENS = 2048
"""Most tokens: the matrix has full rank, so its eigenvalues take time with the cube of its side."""


def through_layers(
    model: MTPTransformer,
    path: Sequence[Head],
    offset: int = 1,
    *,
    tokens: Sequence[int] | None = None,
    background: Float[Tensor, " d_model"] | None = None,
) -> TokenCircuit:
    """Effect on the logits of `offset` of the output of `path` for each token, through the later layers (see the module).

    `background` `[d_model]` is the rest of the residual stream where the last head writes, at `hook_resid_mid` of its layer
    (`hook_resid_post` where there is no MLP); zero by default. `tokens` restricts sources and outputs to these, in this order.

    Raises ValueError for an unknown head, heads that are not in the order of the layers, a path without heads, unknown or
    repeated tokens, more than MOST_TOKENS tokens, an offset that the model does not predict or the path's last head does not
    lead to, and a background of another shape.
    """
    chosen = choose_tokens(model, tokens, MOST_TOKENS)
    _check(model, path, offset, background)
    with quietly(model):
        written_ND = model.W_E[chosen]
        for head in path:
            block = block_of(model, head)
            written_ND = block.ln1(written_ND) @ block.attn.W_V[head.index] @ block.attn.W_O[head.index]
        before_D = written_ND.new_zeros(model.config.d_model) if background is None else background.to(written_ND)
        streams_ND = torch.cat((before_D[None], before_D + written_ND))
        logits_NV = _later(model, streams_ND, path[-1], offset)[:, chosen].double()
    names = ("embed", *(f"{head} OV" for head in path), f"later layers to offset {offset}", "unembed")
    return token_circuit(" -> ".join(names), logits_NV[1:] - logits_NV[0])


def _check(model: MTPTransformer, path: Sequence[Head], offset: int, background: Tensor | None) -> None:
    if not path:
        raise ValueError("the path has no heads; write at least one, such as (Head('blocks.0', 0),)")
    check_path(model, path)
    after, layer = model.path(offset), path[-1].layer
    if model.config.head_type.reads_ahead(model.n_future, offset):
        raise ValueError(
            f"offset is {offset}, and its {model.config.future_heads} future head also reads the tokens in between, "
            "which no path holds; "
            "write offset=1"
        )
    if layer.startswith("future_heads.") and int(layer.partition(".")[2]) not in after:
        raise ValueError(
            f"{path[-1]} does not lead to offset {offset}; write offset={int(layer.partition('.')[2]) + 1}"
        )
    if background is not None and background.shape != (model.config.d_model,):
        raise ValueError(
            f"background has the shape {tuple(background.shape)}; write one vector of {model.config.d_model} values"
        )


def _later(
    model: MTPTransformer, streams_ND: Float[Tensor, "n d_model"], last: Head, offset: int
) -> Float[Tensor, "n d_vocab"]:
    """Logits for residual streams after the attention of the layer of `last`, each stream run as a row of one token."""
    streams = streams_ND[:, None]
    block = block_of(model, last)
    if block.has_mlp:
        streams = streams + block.mlp(block.ln2(streams))
    kind, _, number = last.layer.partition(".")
    rest = model.path(offset)
    if kind == "blocks":
        rotation = model.rotary(1) if model.config.positions == "rotary" else None
        for layer in range(int(number) + 1, len(model.blocks)):
            streams = model.blocks[layer](streams, rotation)
    else:
        rest = rest[rest.index(int(number)) + 1 :]
    for index in rest:
        streams = model.run_future_head(index, streams)
    return model.logits(streams, offset)[:, 0]
