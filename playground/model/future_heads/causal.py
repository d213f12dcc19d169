"""Layers on top of one another: further offsets need more depth."""

from playground.model.future_heads.base import LAYER, FutureHeadType, HeadModule, each_after_the_one_before


class Causal(FutureHeadType):
    """Head 1 is a layer that reads z; head k is a layer that reads the output of head k - 1."""

    name = "causal"
    summary = "One layer for each offset, on the output of the offset before."
    source = "Gloeckle et al. 2024, 2404.19737, appendix B"
    drafting = "layers_in_turn"

    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        return each_after_the_one_before(n_future)

    def module(self, index: int) -> HeadModule:
        return LAYER


FUTURE_HEADS = Causal()
