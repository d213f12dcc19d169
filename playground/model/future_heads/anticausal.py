"""Layers on top of one another in the opposite order: the next token comes last and uses all future heads."""

from playground.model.future_heads.base import LAYER, FutureHeadType, HeadModule


class Anticausal(FutureHeadType):
    """Head n is a layer that reads z; head k is a layer that reads the output of head k + 1."""

    name = "anticausal"
    summary = "One layer for each offset, on the output of the offset after; the next token comes last."
    source = "Gloeckle et al. 2024, 2404.19737, appendix B"
    drafting = "streams_at_hand"

    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(range(n_future - 1, index - 1, -1)) for index in range(n_future))

    def module(self, index: int) -> HeadModule:
        return LAYER


FUTURE_HEADS = Anticausal()
