"""One training step for n = 1: ours against a plain fused GPT and against TransformerLens's own model, in turns.

All three take the same tokens and end with the same clipping and the same fused AdamW. TransformerLens's model is built
by its `boot_native` and gives its own loss (`return_type="loss"`), as its users write a step. It attends explicitly, so
that how far behind it falls depends on the context: both lengths are measured, at 32 and 16 rows.
"""

import statistics
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch

from benchmarks.plain_gpt import PlainGPT
from benchmarks.timing import in_turns, ratio
from playground.config import ModelConfig, OptimConfig
from playground.model.transformer import MTPTransformer
from playground.training.loss import per_head_backward
from playground.training.optim import make_optimizer
from tasks.base import Batch

SHAPES: dict[str, dict[str, Any]] = {
    "2 x 128": {"n_layers": 2, "d_model": 128, "n_heads": 4},
    "4 x 256": {"n_layers": 4, "d_model": 256, "n_heads": 8},
}
BATCHES = ((32, 128), (16, 512))
"""Rows and context."""
VOCABULARY = 256


def run(device: str) -> Iterator[dict[str, Any]]:
    """Ratios of tokens per second: ours over each baseline. Targets: 0.95 and 1.5."""
    for name, shape in SHAPES.items():
        for rows, context in BATCHES:
            yield from _compare(name, ModelConfig(**shape, d_vocab=VOCABULARY, n_ctx=context), rows, device)


def _compare(name: str, config: ModelConfig, rows: int, device: str) -> Iterator[dict[str, Any]]:
    tokens = torch.randint(VOCABULARY, (rows, cast(int, config.n_ctx)), device=device)
    steps = {
        "ours": _ours(config, tokens), "plain GPT": _plain(config, tokens), "TransformerLens": _lens(config, tokens),
    }  # fmt: skip
    times = in_turns(steps, device, repeats=20)
    for baseline, target in (("plain GPT", 0.95), ("TransformerLens", 1.5)):
        yield {
            "benchmark": "train_step", "shape": name, "context": config.n_ctx, "rows": rows, "n_future": 1,
            "against": baseline, "target": target,
            "tokens_per_second": round(tokens.numel() / statistics.median(times["ours"])),
            "baseline_tokens_per_second": round(tokens.numel() / statistics.median(times[baseline])),
            **ratio(times[baseline], times["ours"]),
        }  # fmt: skip


def _ours(config: ModelConfig, tokens: torch.Tensor) -> Callable[[], None]:
    model = MTPTransformer(config).to(tokens.device)
    everything = torch.ones_like(tokens, dtype=torch.bool)
    batch = Batch(tokens=tokens, loss_mask=everything, score_mask=everything, documents=torch.zeros_like(tokens))
    return _step(model, lambda: per_head_backward(model, batch))


def _plain(config: ModelConfig, tokens: torch.Tensor) -> Callable[[], None]:
    model = PlainGPT(config).to(tokens.device)
    return _step(model, lambda: model(tokens).backward())


def _lens(config: ModelConfig, tokens: torch.Tensor) -> Callable[[], None]:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    bridge = cast(Any, TransformerBridge).boot_native(  # attached to the class when the library is imported
        TransformerBridgeConfig(
            n_layers=config.n_layers, d_model=config.d_model, n_heads=config.n_heads, d_head=config.d_head,
            d_mlp=config.d_mlp, d_vocab=VOCABULARY, n_ctx=cast(int, config.n_ctx), act_fn="silu", gated_mlp=True,
            normalization_type="RMS", final_rms=True, uses_rms_norm=True, positional_embedding_type="rotary",
            rotary_dim=config.d_head, eps=config.eps, device=str(tokens.device),
        )
    )  # fmt: skip
    bridge.train()
    return _step(bridge, lambda: bridge(tokens, return_type="loss").backward())


def _step(model: torch.nn.Module, backward: Callable[[], Any]) -> Callable[[], None]:
    """A whole step: gradients, clipping, AdamW. bfloat16 matrix products on CUDA, as in training."""
    optimizer = make_optimizer(model, OptimConfig())
    parameters = list(model.parameters())
    device = parameters[0].device.type

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
