"""Presets: named configurations, each with a summary and a measured time per step.

A preset is a function; `-gpu` presets use the paper's sizes. Measured times and figures are in docs/reference/tasks.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from playground.config import (
    SIZES,
    Control,
    FutureHeads,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
    nearest,
    short_value,
)
from tasks.byte_text import ByteTextConfig
from tasks.induction import InductionConfig
from tasks.polynomial import PolynomialConfig
from tasks.stories import StoriesConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named configuration."""

    name: str
    summary: str
    """One sentence: what is trained, and what can be observed."""
    seconds_per_step: float
    """Measured for n = 1 on two CPU cores (`-gpu` presets: on an H100); time estimates use it."""
    build: Callable[[], RunConfig]


def induction_cpu() -> RunConfig:
    return RunConfig(
        task=InductionConfig(),
        model=ModelConfig(n_layers=3, n_heads=4, d_model=64),
        optim=OptimConfig(lr=4e-3, warmup_steps=150),
        train=TrainConfig(steps=700, batch_size=64, eval_every=20, checkpoint_every=100),
    )


def stories_cpu() -> RunConfig:
    return RunConfig(
        task=StoriesConfig(n_ctx=64, n_first_names=32, n_second_names=32, n_words=8, n_templates=48),
        model=ModelConfig(n_layers=5, n_heads=4, d_model=64),
        optim=OptimConfig(lr=3e-3, warmup_steps=100),
        train=TrainConfig(steps=2400, batch_size=64, eval_every=50, checkpoint_every=400),
    )


def polynomial_cpu() -> RunConfig:
    return RunConfig(
        task=PolynomialConfig(prime=5, coefficients=2, max_operations=5, test_operations=7, n_ctx=64),
        model=ModelConfig(n_layers=5, n_heads=4, d_model=64),
        optim=OptimConfig(lr=3e-3, warmup_steps=150),
        train=TrainConfig(steps=3000, batch_size=64, eval_every=100, checkpoint_every=500),
    )


def bytes_cpu() -> RunConfig:
    return RunConfig(
        task=ByteTextConfig(n_ctx=128),
        model=ModelConfig(n_layers=5, n_heads=4, d_model=128),
        optim=OptimConfig(lr=3e-3, warmup_steps=100),
        train=TrainConfig(steps=900, batch_size=32, eval_every=50, checkpoint_every=150),
    )


def decoding_cpu() -> RunConfig:
    return RunConfig(
        task=ByteTextConfig(n_ctx=256),
        model=ModelConfig(n_layers=12, n_heads=4, d_model=128, n_future=4, control="trunk", future_heads="hydra"),
        optim=OptimConfig(lr=3e-3, warmup_steps=100),
        train=TrainConfig(steps=400, batch_size=32, eval_every=50, checkpoint_every=100),
    )


def _at_size(size: str, **model: Any) -> ModelConfig:
    return ModelConfig(**SIZES[size], **model)


def induction_gpu() -> RunConfig:
    return RunConfig(
        task=InductionConfig(n_ctx=256, d_vocab=1024, min_distance=16, max_distance=128),
        model=_at_size("1M"),
        optim=OptimConfig(lr=4e-3, warmup_steps=300),
        train=TrainConfig(steps=2000, batch_size=128, eval_every=50, checkpoint_every=500),
    )


def stories_gpu() -> RunConfig:
    return RunConfig(
        task=StoriesConfig(n_ctx=256, n_first_names=256, n_second_names=256),
        model=_at_size("1M"),
        optim=OptimConfig(lr=1e-3, warmup_steps=200),
        train=TrainConfig(steps=5000, batch_size=128, eval_every=100, checkpoint_every=1000),
    )


def polynomial_gpu() -> RunConfig:
    return RunConfig(
        task=PolynomialConfig(),
        model=_at_size("10M"),
        optim=OptimConfig(lr=1e-3, warmup_steps=500),
        train=TrainConfig(steps=10000, batch_size=512, eval_every=500, checkpoint_every=2000, compiled=True),
    )


def bytes_gpu() -> RunConfig:
    return RunConfig(
        task=ByteTextConfig(n_ctx=1024),
        model=_at_size("30M"),
        optim=OptimConfig(lr=1e-3, warmup_steps=200),
        train=TrainConfig(steps=600, batch_size=64, eval_every=50, checkpoint_every=200, compiled=True),
    )


def decoding_gpu() -> RunConfig:
    return RunConfig(
        task=ByteTextConfig(n_ctx=1024),
        model=_at_size("100M", n_future=4, control="trunk", future_heads="hydra"),
        optim=OptimConfig(lr=1e-3, warmup_steps=100),
        train=TrainConfig(steps=2300, batch_size=32, eval_every=100, checkpoint_every=500, compiled=True),
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="induction-cpu",
            summary="Random tokens that repeat: an attention head turns into an induction head within a minute.",
            seconds_per_step=0.054,
            build=induction_cpu,
        ),
        Preset(
            name="stories-cpu",
            summary="Small stories with two-token names: the second token can only be copied from the first mention.",
            seconds_per_step=0.095,
            build=stories_cpu,
        ),
        Preset(
            name="polynomial-cpu",
            summary="Arithmetic on small polynomials: exact answers that get harder with every operation.",
            seconds_per_step=0.098,
            build=polynomial_cpu,
        ),
        Preset(
            name="bytes-cpu",
            summary="Bytes of the Python standard library: plain language modelling, in bits per byte.",
            seconds_per_step=0.235,
            build=bytes_cpu,
        ),
        Preset(
            name="decoding-cpu",
            summary="Bytes again, with a deep trunk and light future heads that draft well: made for fast decoding.",
            seconds_per_step=1.18,
            build=decoding_cpu,
        ),
        Preset(
            name="induction-gpu",
            summary="Random repeats with 1024 tokens and a context of 256, at the paper's 1M size.",
            seconds_per_step=0.014,
            build=induction_gpu,
        ),
        Preset(
            name="stories-gpu",
            summary="Stories with 256 x 256 names and a context of 256, at the paper's 1M size.",
            seconds_per_step=0.018,
            build=stories_gpu,
        ),
        Preset(
            name="polynomial-gpu",
            summary="The paper's ring F_7[X]/(X^5) at its 10M size.",
            seconds_per_step=0.057,
            build=polynomial_gpu,
        ),
        Preset(
            name="bytes-gpu",
            summary="Bytes of the Python standard library with a context of 1024, at the paper's 30M size.",
            seconds_per_step=0.087,
            build=bytes_gpu,
        ),
        Preset(
            name="decoding-gpu",
            summary="Bytes of the Python standard library at the paper's 100M size, made for fast decoding.",
            seconds_per_step=0.14,
            build=decoding_gpu,
        ),
    )
}


def find_preset(name: str) -> Preset:
    """A preset by name. Raises ValueError, with the nearest name, for an unknown name."""
    if name not in PRESETS:
        if f"{name}-cpu" in PRESETS:
            raise ValueError(f"there is no preset '{name}'; did you mean '{name}-cpu'?")
        raise ValueError(f"there is no preset {short_value(name)}{nearest(name, PRESETS)}")
    return PRESETS[name]


def make_config(
    preset: str,
    *,
    n_future: int | None = None,
    control: Control | None = None,
    seed: int = 0,
    steps: int | None = None,
    threads: int | None = None,
    future_heads: FutureHeads | None = None,
    objective: str | None = None,
) -> RunConfig:
    """A preset's configuration, with changes to the fields that vary most often. Raises ValueError for an unknown preset.

    >>> make_config("induction-cpu", n_future=2, seed=1).label()
    'induction-cpu-n2-layers-s1'
    >>> make_config("bytes-cpu", n_future=4, future_heads="causal").label()
    'bytes-cpu-n4-causal-layers-s0'
    """
    config = find_preset(preset).build()
    model = {"n_future": n_future, "control": control, "future_heads": future_heads}
    train = {"steps": steps, "threads": threads, "objective": objective}
    return replace(
        config,
        model=replace(config.model, **{name: value for name, value in model.items() if value is not None}),
        train=replace(config.train, **{name: value for name, value in train.items() if value is not None}),
        preset=preset,
        seed=seed,
    )
