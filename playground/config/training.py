"""How a model is trained: the optimizer, the length, and how often to look."""

from dataclasses import dataclass
from typing import Literal

from playground.config.checks import check_fields

MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay (defaults after the paper's tables S13 and S14)."""

    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises linearly from zero."""
    min_lr_ratio: float = 0.03
    """The cosine ends at this share of the peak."""
    weight_decay: float = 0.1
    """Decoupled weight decay, on matrices only."""
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    """Largest norm of the whole gradient."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; write a learning rate above 0, such as 1e-3")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; write 0 or more")
        if not 0 <= self.min_lr_ratio <= 1:
            raise ValueError(f"min_lr_ratio is {self.min_lr_ratio}; write a share between 0 and 1")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; write 0 or more")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"beta1 {self.beta1} and beta2 {self.beta2} must be at least 0 and below 1")
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}; write a gradient norm above 0, such as 1.0")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, on what device, and how often to look."""

    steps: int = 1000
    """Optimizer steps."""
    batch_size: int = 64
    """Rows per step; of several processes (docs/several-gpus.md) each takes an equal share of them."""
    eval_every: int = 50
    """Steps between evaluations (test loss, task score)."""
    log_every: int = 10
    """Steps over which one row of training losses is averaged."""
    checkpoint_every: int = 200
    """Steps between checkpoints; a killed run goes on from the last one."""
    probes: tuple[str, ...] = ("attention", "task_attention", "composition", "behaviour")
    """Probes that run along training (playground/probes/registry.py lists all)."""
    probe_points: int = 64
    """At how many log-spaced steps they run, from step 1 to the last, and once before the first; 0 switches them off."""
    backward: Literal["per_head", "one_graph"] = "per_head"
    """`per_head` runs the future heads one after another, so that only one head's logits are in memory;
    `one_graph` is the plain sum of losses. Equal gradients."""
    accumulate: int = 1
    """Parts that the rows of a step go through in, one after another: less memory, the same gradients."""
    recompute: bool = False
    """Keep only what goes into each trunk layer and compute the rest again when going backward: less memory, more work."""
    graphs: bool = True
    """On CUDA, record a step, and the default probes, once and replay them: small models train several times as fast."""
    compiled: bool = False
    """On CUDA, have torch.compile fuse the layers, which takes a minute at the start."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share one training: each with the whole model, or (`fsdp`) with a part of every parameter."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU where there is one. On CUDA matrix products run in bfloat16, on the CPU in float32."""
    threads: int | None = None
    """CPU threads; None: all cores, at most OMP_NUM_THREADS. Numbers repeat exactly only with the same number of threads."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("steps", "batch_size", "eval_every", "log_every", "checkpoint_every", "accumulate", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; write at least 1")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"a batch of {self.batch_size} rows does not divide into accumulate={self.accumulate} equal parts; "
                "write a divisor of batch_size"
            )
        if self.parallel == "fsdp" and (self.backward != "one_graph" or self.compiled):
            raise ValueError(
                "parallel 'fsdp' needs backward 'one_graph' and no compiled layers; write --backward one_graph"
            )
        if self.probe_points < 0:
            raise ValueError(f"probe_points is {self.probe_points}; write 0 (no probes) or more")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise ValueError(f"threads is {self.threads}; write at most {MOST_THREADS}, or None for all cores")

    @property
    def probe_steps(self) -> tuple[int, ...]:
        """Steps at which probes run: 0, then log-spaced whole steps up to the last; steps closer than 1 fall together.

        >>> TrainConfig(steps=1000, probe_points=4).probe_steps
        (0, 1, 10, 100, 1000)
        """
        if not self.probe_points or not self.probes:
            return ()
        last = max(1, self.probe_points - 1)
        spaced = {round(self.steps ** (point / last)) for point in range(self.probe_points)}
        return tuple(sorted({0, self.steps} | spaced))
