"""One training step for n = 1: ours against a plain fused GPT and against TransformerLens's own model, in turns."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F

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
ROWS, CONTEXT, VOCABULARY = 32, 128, 256


def run(device: str) -> Iterator[dict[str, Any]]:
    """Ratios of tokens per second: ours over each baseline. Targets: 0.95 and 1.5."""
    for name, shape in SHAPES.items():
        config = ModelConfig(**shape, d_vocab=VOCABULARY, n_ctx=CONTEXT)
        tokens = torch.randint(VOCABULARY, (ROWS, CONTEXT), device=device)
        steps = {
            "ours": _ours(config, tokens), "plain GPT": _plain(config, tokens), "TransformerLens": _lens(config, tokens),
        }  # fmt: skip
        times = in_turns(steps, device, repeats=40)
        for baseline, target in (("plain GPT", 0.95), ("TransformerLens", 1.5)):
            yield {
                "benchmark": "train_step", "shape": name, "n_future": 1, "against": baseline, "target": target,
                "tokens_per_second": round(ROWS * CONTEXT / sorted(times["ours"])[20]),
                "baseline_tokens_per_second": round(ROWS * CONTEXT / sorted(times[baseline])[20]),
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
            d_mlp=config.d_mlp, d_vocab=VOCABULARY, n_ctx=CONTEXT, act_fn="silu", gated_mlp=True,
            normalization_type="RMS", final_rms=True, uses_rms_norm=True, positional_embedding_type="rotary",
            rotary_dim=config.d_head, eps=config.eps, device=str(tokens.device),
        )
    )  # fmt: skip
    bridge.train()

    def backward() -> None:
        logits = bridge(tokens)
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()

    return _step(bridge, backward)


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
