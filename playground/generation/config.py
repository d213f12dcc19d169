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
    """How a token is chosen from logits. Without a temperature the most probable one is taken (greedy)."""

    temperature: float | None = None
    """Logits are divided by it; small ones sharpen. None is greedy."""
    top_k: int | None = None
    """Only the k most probable tokens are drawn from."""
    top_p: float | None = None
    """Only the most probable tokens that together reach this probability are drawn from (nucleus: Holtzman et al. 2020)."""

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
            raise ValueError(
                "top_k and top_p shape what is drawn at random; write a temperature with them, such as 1.0"
            )

    @property
    def is_greedy(self) -> bool:
        return self.temperature is None


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """Everything that decides what `generate` does with a model and its prompts."""

    max_new_tokens: int = 64
    """New tokens per row."""
    sampling: Sampling = field(default_factory=Sampling)
    speculative: int | None = None
    """K: offsets 2 .. K draft, one token each. None is plain decoding, one token per forward."""
    tree: Tree | None = None
    """Several candidates per offset in place of one (tree.py); it says by itself how far it reaches."""
    rule: Rule = "exact"
    """`exact` leaves the output, or its distribution, as in plain decoding. `typical` (Cai et al. 2024, section 2.3.1) also
    accepts drafts that are merely probable enough: more of them, and NOT the same distribution."""
    typical_epsilon: float = 0.09
    """Typical acceptance: a draft is good from this probability on, whatever the entropy ..."""
    typical_delta: float = 0.3
    """... and from delta * exp(-entropy) on, where that is less."""
    stop: tuple[int, ...] = ()
    """Tokens that end a row."""
    overflow: Overflow = "error"
    """When a row outgrows the context: `error` refuses beforehand; `slide` drops the oldest half of the context whenever it
    is full, and goes on as if the rest were all there is."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; write at least 1")
        if self.speculative is not None and self.speculative < 2:
            raise ValueError(
                f"speculative is {self.speculative}; write 2 or more (the furthest offset that drafts), or leave it out"
            )
        if self.tree is not None and not self.tree.paths:
            raise ValueError("the tree has no drafts; write at least one path, such as (0,), or leave the tree out")
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
        """The drafts that each forward verifies; none in plain decoding."""
        return self.tree or chain(self.speculative or 1)

    def check(self, model: ModelConfig) -> None:
        """Raises ValueError where `model` has too few offsets, or too few tokens."""
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
                f"the tree asks for {self.drafts.candidates} candidates of an offset, and the vocabulary has {model.d_vocab}"
            )
        outside = [token for token in self.stop if model.d_vocab is not None and not 0 <= token < model.d_vocab]
        if outside:
            raise ValueError(f"stop token {outside[0]} is none of the model's 0 .. {(model.d_vocab or 0) - 1}")
