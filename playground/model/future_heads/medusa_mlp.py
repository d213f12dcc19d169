"""Medusa's heads: a matrix and a SiLU for each further offset, on the output of the next token's layer."""

from playground.model.future_heads.base import LAYER, FutureHeadType, HeadModule, each_after_the_first
from playground.model.future_heads.matrix import Matrix

MATRIX = Matrix(silu=True)


class MedusaMlp(FutureHeadType):
    """Head 1 is a layer; the others are residual blocks of a matrix and a SiLU that read its output."""

    name = "medusa_mlp"
    summary = "A layer for offset 1, and on its output a matrix with SiLU for each further offset."
    source = "Cai et al. 2024, 2401.10774, section 2.1, with a norm added"
    drafting = "at_last_token"

    def paths(self, n_future: int) -> tuple[tuple[int, ...], ...]:
        return each_after_the_first(n_future)

    def module(self, index: int) -> HeadModule:
        return MATRIX if index else LAYER


FUTURE_HEADS = MedusaMlp()
