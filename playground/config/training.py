"""How a model is trained: optimizer, length, and intervals of logging, evaluation, probes and checkpoints."""

from dataclasses import dataclass
from typing import Literal

from playground.config.checks import check_fields, setting, short_value

MOST_STEPS = 10**9
MOST_ROWS = 10**6
"""Bound of the rows of one step."""
MOST_THREADS = 1024
LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
"""Bounds of the weight of one offset's loss, unless it is 0."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay (defaults after the paper's tables S13 and S14)."""

    lr: float = setting(1e-3, above=0, most=1e30)
    """Peak learning rate."""
    warmup_steps: int = setting(100, least=0, most=MOST_STEPS)
    """Steps over which the learning rate rises linearly from zero."""
    min_lr_ratio: float = setting(0.03, least=0, most=1)
    """The cosine ends at this share of the peak."""
    weight_decay: float = setting(0.1, least=0, most=1e30)
    """Decoupled weight decay, on matrices only."""
    beta1: float = setting(0.9, least=0, below=1)
    beta2: float = setting(0.95, least=0, below=1)
    clip: float = setting(1.0, above=0, most=1e30)
    """Largest norm of the gradient; a larger one is scaled down to it."""
    clip_by: Literal["all", "next_token"] = setting("all", since="2026-11-30")
    """Whose norm is compared with `clip`: that of the whole gradient, which grows with n_future, or that of offset 1's part
    alone, so that all n_future are scaled down alike. `next_token` needs a second backward pass through the trunk."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of the training, device, and intervals of logging, evaluation, probes and checkpoints."""

    steps: int = setting(1000, least=1, most=MOST_STEPS)
    """Optimizer steps."""
    batch_size: int = setting(64, least=1, most=MOST_ROWS)
    """Rows per step; several processes (docs/guides/several-gpus.md) take equal shares of them."""
    eval_every: int = setting(50, least=1, most=MOST_STEPS, experiment=False)
    """Steps between evaluations (test loss, task score)."""
    log_every: int = setting(10, least=1, most=MOST_STEPS, experiment=False)
    """Steps over which one row of training losses is averaged."""
    checkpoint_every: int = setting(200, least=1, most=MOST_STEPS, experiment=False)
    """Steps between checkpoints; a killed run resumes from the last one."""
    probes: tuple[str, ...] = setting(("attention", "task_attention", "composition", "behaviour"), experiment=False)
    """Probes that run during training (`probe --probe list` lists all)."""
    probe_points: int = setting(64, least=0, most=10_000, experiment=False)
    """Number of log-spaced steps with probes, from step 1 to the last, besides step 0; 0 switches probes off."""
    offset_weights: tuple[float, ...] = setting((), most=256, since="2026-11-30")
    """Weight of each offset's loss in the sum, offset 1 first, such as 1 0.3; without any, each weight is 1."""
    objective: str = setting("n_token", least=1, most=100, since="2026-11-30")
    """What is minimised (playground/training/objectives has a file for each); `train --help` lists all."""
    objective_settings: tuple[str, ...] = setting((), most=32, since="2026-11-30")
    """Settings of the objective, such as smoothing=0.1; those that are not given have their defaults."""
    backward: Literal["per_head", "one_graph"] = setting("per_head", experiment=False)
    """`per_head` runs the future heads one after another, so that the logits of only one are in memory;
    `one_graph` is the plain sum of losses. The gradients are equal. For an objective without
    `per_head`, both values mean `one_graph`."""
    accumulate: int = setting(1, least=1, most=MOST_ROWS, experiment=False, since="2026-11-28")
    """Gradient accumulation: number of parts into which the rows of a step are split; less memory, equal gradients."""
    recompute: bool = setting(False, experiment=False, since="2026-11-28")
    """Activation checkpointing: store only the input of each trunk layer, recompute the rest; less memory, more time."""
    graphs: bool = setting(True, experiment=False, since="2026-11-28")
    """On CUDA, record a step and the default probes as CUDA graphs: small models train several times as fast."""
    compiled: bool = setting(False, experiment=False, since="2026-11-28")
    """On CUDA, fuse the layers with torch.compile, which takes a minute at the start."""
    parallel: Literal["ddp", "fsdp"] = setting("ddp", experiment=False, since="2026-11-28")
    """How several processes share one training: `ddp` copies the whole model, `fsdp` shards every parameter."""
    device: Literal["auto", "cpu", "cuda"] = setting("auto", experiment=False)
    """`auto` uses a GPU if there is one. Matrix products run in bfloat16 on CUDA, in float32 on the CPU."""
    threads: int | None = setting(None, least=1, most=MOST_THREADS, experiment=False)
    """CPU threads; None: all cores, at most OMP_NUM_THREADS. Results repeat exactly only with the same number of threads."""

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_weights()
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"a batch of {self.batch_size} rows does not divide into accumulate={self.accumulate} equal parts; "
                "write a divisor of batch_size"
            )
        if self.parallel == "fsdp" and (self.backward != "one_graph" or self.compiled):
            raise ValueError(
                "parallel 'fsdp' needs backward 'one_graph' and no compiled layers; write --backward one_graph"
            )

    def probe_steps(self, steps: int) -> tuple[int, ...]:
        """Steps at which probes run in a training of `steps` steps: 0, then log-spaced integers up to the last, without
        duplicates.

        >>> TrainConfig(probe_points=4).probe_steps(1000)
        (0, 1, 10, 100, 1000)
        """
        if not self.probe_points or not self.probes:
            return ()
        last = max(1, self.probe_points - 1)
        spaced = {round(steps ** (point / last)) for point in range(self.probe_points)}
        return tuple(sorted({0, steps} | spaced))

    def _check_weights(self) -> None:
        for offset, weight in enumerate(self.offset_weights, start=1):
            if weight and not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
                raise ValueError(
                    f"offset_weights has {short_value(weight)} for offset {offset}; write 0, or a number from "
                    f"{LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
                )
        if self.offset_weights and not any(self.offset_weights):
            raise ValueError("offset_weights are all 0, so nothing would be trained; write one above 0")
