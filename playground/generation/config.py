"""How to decode: `DecodingConfig`, frozen and strict."""

from dataclasses import dataclass, field
from typing import Literal

from playground.config import ModelConfig
from playground.config.checks import check_fields
from playground.generation.tree import Tree, chain

Overflow = Literal["error", "slide"]
Rule = Literal["exact", "typical"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen from logits. Without a temperature the most probable token is taken (greedy)."""

    temperature: float | None = None
    """Logits are divided by it; small values sharpen the distribution. None is greedy."""
    top_k: int | None = None
    """Draw only from the k most probable tokens."""
    top_p: float | None = None
    """Draw only from the most probable tokens that together reach this probability (nucleus: Holtzman et al. 2020)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(
                f"temperature is {self.temperature}; write a number above 0, such as 0.8, or leave it out for greedy decoding"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; write at least 1, or leave it out")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; write a share above 0 and up to 1, such as 0.9, or leave it out")
        if self.temperature is None and (self.top_k is not None or self.top_p is not None):
            raise ValueError("top_k and top_p restrict random sampling; write a temperature with them, such as 1.0")

    @property
    def is_greedy(self) -> bool:
        return self.temperature is None


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """All settings of `generate`."""

    max_new_tokens: int = 64
    """New tokens per row."""
    sampling: Sampling = field(default_factory=Sampling)
    speculative: int | None = None
    """K: offsets 2 .. K draft, one token each. None is plain decoding, one token per forward."""
    tree: Tree | None = None
    """Several candidates per offset instead of one (tree.py); the tree itself defines the furthest offset."""
    rule: Rule = "exact"
    """`exact` gives the output, or its distribution, of plain decoding. `typical` (Cai et al. 2024, section 2.3.1) accepts
    every draft that is probable enough: more drafts, but NOT the distribution of plain decoding."""
    typical_epsilon: float = 0.09
    """Typical acceptance: a draft is accepted if its probability exceeds min(epsilon, delta * exp(-entropy))."""
    typical_delta: float = 0.3
    """The delta in min(epsilon, delta * exp(-entropy)), the bound of typical acceptance."""
    stop: tuple[int, ...] = ()
    """Tokens that end a row."""
    overflow: Overflow = "error"
    """For rows that outgrow the context: `error` raises before decoding; `slide` drops the oldest half of the context whenever
    it is full, and continues with the rest."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; write at least 1")
        if self.speculative is not None and self.speculative < 2:
            raise ValueError(
                f"speculative is {self.speculative}; write 2 or more (the furthest offset that drafts), or leave it out"
            )
        if self.tree is not None and not self.tree.paths:
            raise ValueError("the tree has no drafts; write at least one path, such as (0,), or omit the tree")
        if self.tree is not None and self.speculative not in (None, self.tree.speculative):
            raise ValueError(
                f"speculative is {self.speculative} and the tree reaches offset {self.tree.speculative}; leave one of them out"
            )
        if self.rule == "typical" and (self.sampling.is_greedy or self.drafts.n_nodes == 1):
            raise ValueError(
                "typical acceptance is for drafts of sampled text; write a temperature and speculative=K with it"
            )
        if not (0 < self.typical_epsilon <= 1 and 0 < self.typical_delta):
            raise ValueError(
                f"typical_epsilon is {self.typical_epsilon} and typical_delta is {self.typical_delta}; write an epsilon above "
                "0 and up to 1, such as 0.09, and a delta above 0, such as 0.3"
            )

    @property
    def drafts(self) -> Tree:
        """The tree of drafts that each forward verifies; without drafts in plain decoding."""
        return self.tree or chain(self.speculative or 1)

    def check(self, model: ModelConfig) -> None:
        """Raises ValueError if `model` has too few offsets or too small a vocabulary, or does not have a stop token."""
        wanted = self.drafts.speculative
        if wanted > model.n_future:
            if model.n_future == 1:
                raise ValueError(
                    "the model predicts the next token only and has no future heads to draft with; leave speculative and tree "
                    "out, or take a run with n_future of 2 or more"
                )
            raise ValueError(
                f"drafts of offset {wanted} need a future head that the model does not have; write speculative of at most "
                f"{model.n_future}"
            )
        if model.d_vocab is not None and self.drafts.candidates > model.d_vocab:
            raise ValueError(
                f"the tree needs {self.drafts.candidates} candidates of an offset, and the vocabulary has {model.d_vocab}"
            )
        outside = [token for token in self.stop if model.d_vocab is not None and not 0 <= token < model.d_vocab]
        if outside:
            raise ValueError(f"stop token {outside[0]} is not one of the model's 0 .. {(model.d_vocab or 0) - 1}")
