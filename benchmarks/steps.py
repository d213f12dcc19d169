"""Whole training steps for timing: this project's, a plain GPT's and that of TransformerLens's own model.

All use the same tokens, the same clipping and the same fused AdamW. TransformerLens's model is built by its `boot_native` and
returns its own loss (`return_type="loss"`), as in its users' code. On CUDA matrix products are in bfloat16, as in training.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.plain_gpt import PlainGPT
from playground.config import ModelConfig, OptimConfig, RunConfig, TrainConfig
from playground.model.transformer import MTPTransformer
from playground.training.optim import make_optimizer
from playground.training.step import WARM_UP, Learner, make_step
from tasks.base import Batch
from tasks.byte_text import ByteTextConfig

Step = Callable[[], Any]
MakeStep = Callable[[ModelConfig, Tensor], Step]
UNTIMED = WARM_UP + 2
"""Untimed first steps on CUDA, for compilation and for the recording of our step as a CUDA graph."""
UNTIMED_ON_CPU = 2


def ours(config: ModelConfig, tokens: Tensor) -> Step:
    """This project's training step: on CUDA with compiled layers and as one CUDA graph."""
    batch, train = whole_batch(tokens), TrainConfig(batch_size=len(tokens), compiled=tokens.is_cuda)
    task = ByteTextConfig(n_ctx=cast(int, config.n_ctx))  # any task with this context; a step does not use it
    model = MTPTransformer(config).to(tokens.device)
    return training_step(model, RunConfig(task=task, model=config, train=train), lambda: batch)


def training_step(model: MTPTransformer, config: RunConfig, sample: Callable[[], Batch]) -> Step:
    """This project's training step on the next batch, equal to a step of `playground.training.loop.fit`."""
    learner = Learner(model=model, optimizer=make_optimizer(model, config.optim), optim=config.optim)
    step = make_step([learner], config)
    return lambda: step([sample()], [config.optim.lr])


def plain(config: ModelConfig, tokens: Tensor) -> Step:
    """Training step of the plain GPT in eager mode."""
    model = PlainGPT(config).to(tokens.device)
    return _step(model, lambda: model(tokens))


def plain_compiled(config: ModelConfig, tokens: Tensor) -> Step:
    """Training step of the plain GPT with its whole loss compiled."""
    model = PlainGPT(config).to(tokens.device)
    loss = torch.compile(model, dynamic=False)
    return _step(model, lambda: loss(tokens))


def times_over(count: int, work: Step) -> Step:
    """`work` repeated `count` times in one call, for data that is drawn in blocks (playground/training/sampler.py)."""

    def whole() -> None:
        for _ in range(count):
            work()

    return whole


def lens(config: ModelConfig, tokens: Tensor) -> Step:
    """Training step of TransformerLens's native model of this shape, in eager mode."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    bridge = cast(Any, TransformerBridge).boot_native(  # attached to the class when the library is imported
        TransformerBridgeConfig(
            n_layers=config.n_layers,
            d_model=config.d_model,
            n_heads=config.n_heads,
            d_head=config.d_head,
            d_mlp=config.d_mlp,
            d_vocab=cast(int, config.d_vocab),
            n_ctx=cast(int, config.n_ctx),
            act_fn="silu",
            gated_mlp=True,
            normalization_type="RMS",
            final_rms=True,
            uses_rms_norm=True,
            rotary_dim=config.d_head,
            positional_embedding_type="rotary",
            eps=config.eps,
            device=str(tokens.device),
        ),
        device=tokens.device,
    )
    bridge.train()
    return _step(bridge, lambda: bridge(tokens, return_type="loss"))


def whole_batch(tokens: Tensor) -> Batch:
    """A batch in which every token is a target, with one document per row."""
    everything = torch.ones_like(tokens, dtype=torch.bool)
    return Batch(tokens=tokens, loss_mask=everything, score_mask=everything, documents=torch.zeros_like(tokens))


def _step(model: torch.nn.Module, loss: Callable[[], Tensor]) -> Step:
    """A step of loss, gradients, clipping and AdamW."""
    optimizer = make_optimizer(model, OptimConfig())
    parameters = list(model.parameters())
    device = parameters[0].device.type

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            total = loss()
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
