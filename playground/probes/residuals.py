"""The residual stream along the trunk: after the embedding, and after each layer."""

from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from playground.model.transformer import MTPTransformer
from playground.probes.quiet import quietly


def trunk_sites(model: MTPTransformer) -> tuple[str, ...]:
    """`embed`, `blocks.0`, ..; the stream at the last site is the trunk output z (`embed` in a trunk without layers)."""
    return ("embed", *(f"blocks.{layer}" for layer in range(len(model.blocks))))


def trunk_streams(
    model: MTPTransformer, tokens: Int[Tensor, "batch pos"]
) -> dict[str, Float[Tensor, "batch pos d_model"]]:
    """The residual stream at each of the `trunk_sites`, in their order. `embed` includes learned positions.

    Hooks that are already on the model stay active; the last stream is what the future heads read.
    """
    *before, last = trunk_sites(model)
    hook_names = {"blocks.0.hook_resid_pre" if site == "embed" else f"{site}.hook_resid_post": site for site in before}
    streams: dict[str, Tensor] = {}

    def keep(resid: Tensor, hook: HookPoint) -> None:
        streams[hook_names[str(hook.name)]] = resid

    with quietly(model, [(name, keep) for name in hook_names]):
        streams[last] = model.trunk(tokens.to(model.W_E.device))
    return streams
