"""`generate`, the public function for decoding."""

from collections.abc import Sequence

import torch

from playground.generation.config import DecodingConfig
from playground.generation.decoder import Decoder
from playground.generation.reference import OnStep, generate_uncached
from playground.generation.window import check_prompts
from playground.model.evaluation_mode import evaluation_mode
from playground.model.transformer import MTPTransformer
from playground.results import Decoding


def generate(
    model: MTPTransformer,
    prompts: Sequence[Sequence[int]],
    config: DecodingConfig | None = None,
    *,
    generator: torch.Generator | None = None,
    cached: bool = True,
    on_step: OnStep | None = None,
) -> Decoding:
    """Continue every prompt. Prompts are rows of tokens and may have different lengths.

    `generator`, on the model's device, is needed for sampling. `cached=False` runs the whole context through the model for
    every token: slow, but the only way to decode with hooks and clamps. `on_step(row, step)` is called after each forward.
    Raises ValueError for prompts that are empty, too long or contain unknown tokens, for more offsets than the model has, for
    sampling without a generator, and for cached decoding of a model with hooks.
    """
    config = config or DecodingConfig()
    rows = [[int(token) for token in prompt] for prompt in prompts]
    config.check(model.config)
    check_prompts(rows, config, model.config)
    if generator is None and not config.sampling.is_greedy:
        raise ValueError("sampling needs a generator; write generator=torch.Generator(device).manual_seed(0)")
    with evaluation_mode(model):
        if cached:
            return Decoder(model, config).generate(rows, generator=generator, on_step=on_step)
        return generate_uncached(model, rows, config, generator, on_step)
