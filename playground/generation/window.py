"""Start of a row's context, and checks of prompts, shared by plain and speculative decoding."""

from collections.abc import Sequence

from playground.config import ModelConfig
from playground.generation.config import DecodingConfig


def window_start(length: int, n_ctx: int) -> int:
    """Index of the first token of the context from which token `length` is predicted.

    The context grows to `n_ctx` tokens; then its older half (rounded down) is dropped at once. It depends only on `length`, so
    that all decoding methods use equal contexts.

    >>> [window_start(length, 4) for length in (3, 4, 5, 6, 7)]
    [0, 0, 2, 2, 4]
    """
    dropped = max(1, n_ctx // 2)
    return max(0, -(-(length - n_ctx) // dropped)) * dropped


def check_prompts(prompts: Sequence[Sequence[int]], config: DecodingConfig, model: ModelConfig) -> None:
    """Raises ValueError for no prompts, an empty prompt, tokens outside of the vocabulary, and too little context."""
    assert model.d_vocab is not None and model.n_ctx is not None
    if not len(prompts):
        raise ValueError("there are no prompts; write at least one")
    for row, prompt in enumerate(prompts):
        where = f"prompt {row + 1}" if len(prompts) > 1 else "the prompt"
        if not len(prompt):
            raise ValueError(f"{where} is empty; write at least one token")
        unknown = next((place for place, token in enumerate(prompt) if not 0 <= token < model.d_vocab), None)
        if unknown is not None:
            raise ValueError(
                f"{where} has token {prompt[unknown]} at place {unknown + 1}, and the model has 0 to {model.d_vocab - 1}"
            )
        if config.overflow == "error" and len(prompt) > model.n_ctx:
            raise ValueError(
                f"{where} has {len(prompt)} tokens, and the model's context is {model.n_ctx}; shorten it, or write "
                "overflow='slide' to keep its end only"
            )
        most = model.n_ctx - len(prompt) + 1
        if config.overflow == "error" and config.max_new_tokens > most:
            raise ValueError(
                f"{where} of {len(prompt)} tokens leaves room for {most} new ones in a context of {model.n_ctx}, and "
                f"{config.max_new_tokens} are wanted; write max_new_tokens={most} or less, a shorter prompt, "
                "or overflow='slide'"
            )
