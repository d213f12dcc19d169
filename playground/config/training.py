"""How a model is trained: the optimizer, the length, and how often to look."""

from dataclasses import dataclass
from typing import Literal

from playground.config.checks import check_fields, setting, short_value

MOST_STEPS = 10**9
MOST_ROWS = 10**6
"""Rows of one step."""
MOST_THREADS = 1024
LEAST_WEIGHT, MOST_WEIGHT = 1e-6, 1e6
"""Of one offset's loss."""


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
    """Whose norm is held against `clip`: that of the whole gradient, which grows with n_future, or that of offset 1's part of
    it, so that models of every n_future are scaled down alike. The second takes another pass through the trunk."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, on what device, and how often to look."""

    steps: int = setting(1000, least=1, most=MOST_STEPS)
    """Optimizer steps."""
    batch_size: int = setting(64, least=1, most=MOST_ROWS)
    """Rows per step; of several processes (docs/several-gpus.md) each takes an equal share of them."""
    eval_every: int = setting(50, least=1, most=MOST_STEPS, experiment=False)
    """Steps between evaluations (test loss, task score)."""
    log_every: int = setting(10, least=1, most=MOST_STEPS, experiment=False)
    """Steps over which one row of training losses is averaged."""
    checkpoint_every: int = setting(200, least=1, most=MOST_STEPS, experiment=False)
    """Steps between checkpoints; a killed run goes on from the last one."""
    probes: tuple[str, ...] = setting(("attention", "task_attention", "composition", "behaviour"), experiment=False)
    """Probes that run along training (playground/probes/registry.py lists all)."""
    probe_points: int = setting(64, least=0, most=10_000, experiment=False)
    """At how many log-spaced steps they run, from step 1 to the last, and once before the first; 0 switches them off."""
    offset_weights: tuple[float, ...] = setting((), most=256, since="2026-11-30")
    """What the loss of each offset counts in the sum, offset 1 first, such as 1 0.3; none: each counts 1."""
    backward: Literal["per_head", "one_graph"] = setting("per_head", experiment=False)
    """`per_head` runs the future heads one after another, so that only one head's logits are in memory;
    `one_graph` is the plain sum of losses. Equal gradients."""
    accumulate: int = setting(1, least=1, most=MOST_ROWS, experiment=False, since="2026-11-28")
    """Parts that the rows of a step go through in, one after another: less memory, the same gradients."""
    recompute: bool = setting(False, experiment=False, since="2026-11-28")
    """Keep only what goes into each trunk layer and compute the rest again when going backward: less memory, more work."""
    graphs: bool = setting(True, experiment=False, since="2026-11-28")
    """On CUDA, record a step, and the default probes, once and replay them: small models train several times as fast."""
    compiled: bool = setting(False, experiment=False, since="2026-11-28")
    """On CUDA, have torch.compile fuse the layers, which takes a minute at the start."""
    parallel: Literal["ddp", "fsdp"] = setting("ddp", experiment=False, since="2026-11-28")
    """How several processes share one training: each with the whole model, or (`fsdp`) with a part of every parameter."""
    device: Literal["auto", "cpu", "cuda"] = setting("auto", experiment=False)
    """`auto` takes the GPU where there is one. On CUDA matrix products run in bfloat16, on the CPU in float32."""
    threads: int | None = setting(None, least=1, most=MOST_THREADS, experiment=False)
    """CPU threads; None: all cores, at most OMP_NUM_THREADS. Numbers repeat exactly only with the same number of threads."""

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
        """Of `steps` steps those at which probes run: 0, then log-spaced whole ones up to the last; steps closer than 1 fall
        together.

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
            raise ValueError("offset_weights are all 0, so that nothing would be learned; write one above 0")
