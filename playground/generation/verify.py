"""Acceptance of drafts, and the token that offset 1 adds after them. Pure functions of logits, drafts and random numbers.

- Greedy (Stern et al. 2018, 1811.03115): a draft is accepted if it is offset 1's most probable token; the output equals that
  of plain greedy decoding, token for token.
- Chains with sampling (Leviathan et al. 2023, 2211.17192; Chen et al. 2023, 2302.01318): a draft x, drawn from q, is accepted
  with probability min(1, p(x) / q(x)); at the first rejection the token is drawn in proportion to max(0, p - q). The output has
  exactly the distribution p.
- Trees with sampling: at every node a token is drawn from p; a draft that equals it is accepted. Exact for any drafts, because
  drafts never influence what is drawn.
- Typical (Cai et al. 2024, 2401.10774): a draft is accepted if p(x) > min(epsilon, delta exp(-entropy of p)). Not exact.

Dimension letters: B row, W node of the tree, V d_vocab. Node 0 is the root; see tree.py.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.sampling import distribution, draw
from playground.generation.tree import Tree


class TreeTensors(NamedTuple):
    """A tree's tables on a device."""

    parents: Int[Tensor, " node"]
    depths: Int[Tensor, " node"]
    ranks: Int[Tensor, " node"]
    ancestors: Bool[Tensor, "node node"]
    lines: Int[Tensor, "node depth"]
    is_chain: bool


def tree_tensors(tree: Tree, device: torch.device | str) -> TreeTensors:
    """A tree's tables, copied to `device`."""
    tables = (tree.parents, tree.depths, tree.ranks, tree.ancestors, tree.lines)
    return TreeTensors(*(torch.from_numpy(table).to(device) for table in tables), is_chain=tree.is_chain)


class Verdict(NamedTuple):
    """The outcome of a forward for each row."""

    last: Int[Tensor, " row"]
    """The last accepted draft, or the root; offset 1's own token comes after it."""
    accepted: Int[Tensor, " row"]
    """Number of accepted drafts."""
    own: Int[Tensor, " row"]
    """Offset 1's own token."""


def verify(
    logits_BWV: Float[Tensor, "row node d_vocab"],
    drafts: Int[Tensor, "row draft"],
    draft_probability: Float[Tensor, "row draft d_vocab"] | None,
    room: Int[Tensor, " row"],
    uniform: Float[Tensor, "row node two"] | None,
    tree: TreeTensors,
    config: DecodingConfig,
) -> Verdict:
    """Accept or reject the drafts of one forward by offset 1's logits.

    `draft_probability` is the distribution from which the drafts of a chain were drawn (None: greedy, and trees), `room` the
    depth of the deepest draft that still fits into the context, `uniform` two numbers from [0, 1) per node (None: greedy).
    """
    if config.sampling.is_greedy:
        return _matching(logits_BWV.argmax(dim=-1), drafts, room, tree)
    assert uniform is not None
    probability_BWV = distribution(logits_BWV, config.sampling)
    if config.rule == "typical":
        return _typical(probability_BWV, drafts, room, uniform, tree, config)
    if draft_probability is None or not drafts.shape[1]:
        return _matching(draw(probability_BWV, uniform[..., 0]), drafts, room, tree)
    return _speculative_sampling(probability_BWV, drafts, draft_probability, room, uniform, tree)


def _matching(said_BW: Tensor, drafts: Tensor, room: Tensor, tree: TreeTensors) -> Verdict:
    fits = (said_BW[:, :-1] if tree.is_chain else said_BW[:, tree.parents[1:]]) == drafts
    last, accepted = _furthest(fits, room, tree)
    return Verdict(last, accepted, said_BW.gather(1, last[:, None])[:, 0])


def _speculative_sampling(
    probability_BWV: Tensor, drafts: Tensor, q_BDV: Tensor, room: Tensor, uniform: Tensor, tree: TreeTensors
) -> Verdict:
    p = probability_BWV[:, :-1].gather(2, drafts[..., None])[..., 0]
    q = q_BDV.gather(2, drafts[..., None])[..., 0]
    last, accepted = _furthest(uniform[:, 1:, 0] * q < p, room, tree)
    rows = torch.arange(len(drafts), device=drafts.device)
    p_BV = probability_BWV[rows, last]
    # Without a rejection (all accepted, or the context is full) there is no q to subtract: draw from p itself.
    refused = (accepted < drafts.shape[1]) & (accepted < room)
    q_BV = q_BDV[rows, accepted.clamp(max=drafts.shape[1] - 1)] * refused[:, None]
    beyond_BV = (p_BV - q_BV).clamp(min=0)
    # p equal to q up to rounding leaves no positive entry, and `draw` needs one.
    beyond_BV = torch.where(beyond_BV.sum(dim=-1, keepdim=True) > 0, beyond_BV, p_BV)
    return Verdict(last, accepted, draw(beyond_BV, uniform[rows, last, 1]))


def _typical(
    probability_BWV: Tensor, drafts: Tensor, room: Tensor, uniform: Tensor, tree: TreeTensors, config: DecodingConfig
) -> Verdict:
    p_BDV = probability_BWV[:, tree.parents[1:]]
    entropy = -torch.special.xlogy(p_BDV, p_BDV).sum(dim=-1)
    least = (config.typical_delta * (-entropy).exp()).clamp(max=config.typical_epsilon)
    fits = p_BDV.gather(2, drafts[..., None])[..., 0] > least
    last, accepted = _furthest(fits, room, tree)
    rows = torch.arange(len(drafts), device=drafts.device)
    return Verdict(last, accepted, draw(probability_BWV[rows, last], uniform[rows, last, 1]))


def _furthest(fits: Bool[Tensor, "row draft"], room: Tensor, tree: TreeTensors) -> tuple[Tensor, Tensor]:
    """The deepest node whose whole path fits within `room` (of several, the first), and its depth; both `[row]`."""
    fits = fits & (tree.depths[1:] <= room[:, None])
    if not fits.shape[1]:
        nothing = torch.zeros_like(room)
        return nothing, nothing
    if tree.is_chain:
        accepted = fits.cumprod(dim=1).sum(dim=1)
        return accepted, accepted
    whole = (fits[:, None, :] | ~tree.ancestors[1:, 1:]).all(dim=-1)
    accepted, index = (whole * tree.depths[1:]).max(dim=1)
    return torch.where(accepted > 0, index + 1, 0), accepted


def draft_tokens(
    logits_BKV: Float[Tensor, "row offset d_vocab"],
    uniform: Float[Tensor, "row draft"] | None,
    tree: Tree,
    tables: TreeTensors,
    sampling: Sampling,
    rule: str = "exact",
) -> tuple[Int[Tensor, "row draft"], Float[Tensor, "row draft d_vocab"] | None]:
    """The drafts of a tree from the logits of the offsets 2 .. K, and for a sampled chain the distributions they come from.

    A chain under exact sampling draws its drafts from the offsets' distributions; all others take the most probable tokens.
    """
    if samples_drafts(tree, sampling, rule):
        assert uniform is not None
        q_BDV = distribution(logits_BKV, sampling)
        return draw(q_BDV, uniform), q_BDV
    if tree.is_chain:
        return logits_BKV.argmax(dim=-1), None
    ranked_BKR = logits_BKV.topk(tree.candidates, dim=-1).indices
    return ranked_BKR[:, tables.depths[1:] - 1, tables.ranks[1:]], None


def samples_drafts(tree: Tree, sampling: Sampling, rule: str) -> bool:
    """True if drafts are drawn at random, which is the case for chains under exact sampling."""
    return tree.is_chain and not sampling.is_greedy and rule == "exact" and bool(tree.paths)
