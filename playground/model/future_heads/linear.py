"""A matrix for each offset in place of a layer."""

from playground.model.future_heads.base import FutureHeadType, HeadModule, each_on_the_trunk
from playground.model.future_heads.matrix import Matrix

MATRIX = Matrix()


class Linear(FutureHeadType):
    """Every future head, that of offset 1 included, is a matrix that reads z."""

    name = "linear"
    summary = "A matrix for each offset, all on the trunk's output; no layer."
    source = "Gloeckle et al. 2024, 2404.19737, appendix B, with a norm added"
    drafting = "at_last_token"

    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        return each_on_the_trunk(n_future)

    def module(self, index: int) -> HeadModule:
        return MATRIX


FUTURE_HEADS = Linear()
