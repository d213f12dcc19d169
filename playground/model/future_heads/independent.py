"""One layer for each offset, side by side on the trunk: the paper's main architecture."""

from playground.model.future_heads.base import LAYER, FutureHeadType, HeadModule, each_on_the_trunk


class Independent(FutureHeadType):
    """Every future head is a layer that reads z."""

    name = "independent"
    summary = "One layer for each offset, all on the trunk's output."
    source = "Gloeckle et al. 2024, 2404.19737, section 2"
    drafting = "layers_at_once"

    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        return each_on_the_trunk(n_future)

    def module(self, index: int) -> HeadModule:
        return LAYER


FUTURE_HEADS = Independent()
