"""One training step: ours against a plain GPT and TransformerLens's own model, against the device, and n = 4 against n = 1.

Four kinds of rows for each size (benchmarks/steps.py defines a step):

- `train_step`: tokens per second at n = 1, ours divided by each baseline's, timed alternately.
- `train_memory`: on CUDA, peak memory at n = 1 of weights, optimizer and steps, ours divided by each baseline's.
- `utilization`: model FLOPs per second (playground/config/flops.py) divided by the device's rate of matrix products.
- `n_future_cost`: a step's time divided by that of n = 1 with equally many layers, and the corresponding ratio of FLOPs.

TransformerLens computes attention without a fused kernel, so the ratio depends on the context. The batch size leaves room for
its attention matrices on a GPU of 80 GB; at 300M they would not fit, and TransformerLens is not measured.
"""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import floors, steps
from benchmarks.timing import Row, in_turns, quartiles, ratio, rounded, summary
from playground.config import SIZES, ModelConfig
from playground.config.flops import training_flops_per_token
from tasks.base import seeded_generator

SEED = 0
VOCABULARY = 256


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model size with batch, context and targets."""

    size: str
    shape: Mapping[str, Any]
    rows: int
    context: int
    further: tuple[int, ...] = ()
    """n_future to compare with n = 1, with equally many layers."""
    lens_target: float | None = None
    """Target for tokens per second divided by TransformerLens's."""
    mfu_target: float | None = None
    cost_target: float | None = None
    """Upper target for the time ratio of n > 1 to n = 1, divided by the ratio of FLOPs."""
    time_target: float | None = None
    """Upper target for the time ratio of n > 1 to n = 1."""
    lens: bool = True
    repeats: int = 20
    """Fewer for longer steps; the spread shows their precision."""

    def config(self, n_future: int = 1) -> ModelConfig:
        """The model with control `layers`."""
        return ModelConfig(**self.shape, n_future=n_future, d_vocab=VOCABULARY, n_ctx=self.context)

    def tokens(self, device: str) -> Tensor:
        """Random rows."""
        drawn = torch.randint(VOCABULARY, (self.rows, self.context), generator=seeded_generator(SEED))
        return drawn.to(device)

    @property
    def fields(self) -> Row:
        """The fields of a row that identify the case."""
        return {"size": self.size, "context": self.context, "rows": self.rows, "seed": SEED}


def _paper(size: str, rows: int, context: int, **targets: Any) -> Case:
    return Case(size=size, shape=SIZES[size], rows=rows, context=context, further=(4,), **targets)


CASES: dict[str, tuple[Case, ...]] = {
    "cpu": (
        *(
            Case(size=size, shape=shape, rows=rows, context=context, lens_target=1.5, repeats=repeats)
            for size, shape, rows, context, repeats in (
                ("2 x 128", {"n_layers": 2, "d_model": 128, "n_heads": 4}, 32, 128, 30),
                ("2 x 128", {"n_layers": 2, "d_model": 128, "n_heads": 4}, 16, 512, 16),
                ("4 x 256", {"n_layers": 4, "d_model": 256, "n_heads": 8}, 32, 128, 10),
                ("4 x 256", {"n_layers": 4, "d_model": 256, "n_heads": 8}, 16, 512, 5),
            )
        ),
        _paper("1M", 16, 256, repeats=12),
    ),
    "cuda": (
        _paper("1M", 256, 256, lens_target=2.5, time_target=1.20),
        _paper("30M", 128, 256, lens_target=4.0, mfu_target=0.45, cost_target=1.05),
        _paper("100M", 16, 1024, lens_target=5.0, cost_target=1.05),
        _paper("300M", 16, 1024, lens=False, mfu_target=0.60, cost_target=1.05),
    ),
}
QUICK = (
    Case(
        size="5 x 16", shape={"n_layers": 5, "d_model": 16, "n_heads": 2}, rows=2, context=16, further=(4,), repeats=3
    ),
)


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """All lines of all sizes."""
    floor = floors.measured(device, quick).matmul_tflop_s
    for case in QUICK if quick else CASES[device]:
        yield from _against_baselines(case, device, floor)
        if case.further:
            yield from _further_offsets(case, device, floor)


def _baselines(case: Case, device: str) -> dict[str, tuple[steps.MakeStep, float | None]]:
    """The baselines, each with the target for our tokens per second divided by its own."""
    found: dict[str, tuple[steps.MakeStep, float | None]] = {
        "plain GPT": (steps.plain, None if device == "cuda" else 1.0)
    }
    if device == "cuda":
        found["plain GPT, compiled"] = (steps.plain_compiled, 1.0)
    if case.lens:
        found["TransformerLens"] = (steps.lens, case.lens_target)
    return found


def _against_baselines(case: Case, device: str, floor: float) -> Iterator[Row]:
    """Rows of our step at n = 1 against each baseline, and against the device."""
    tokens, baselines = case.tokens(device), _baselines(case, device)
    works: dict[str, steps.Step] = {}
    peaks: dict[str, float | None] = {}
    for name, make in {"ours": steps.ours, **{name: make for name, (make, _) in baselines.items()}}.items():
        works[name], peaks[name] = _warmed_up(make, case.config(), tokens)
    times = in_turns(works, device, case.repeats, warmup=0)
    for name, (_, target) in baselines.items():
        yield {
            "benchmark": "train_step",
            **case.fields,
            "n_future": 1,
            "against": name,
            **summary(_rates(tokens, times["ours"]), "tokens/s"),
            "baseline_value": rounded(quartiles(_rates(tokens, times[name]))[1]),
            **ratio(times[name], times["ours"]),
            "target": target,
            "target_is": "at least",
        }
        if (peak := peaks["ours"]) is not None and (other := peaks[name]) is not None:
            yield {
                "benchmark": "train_memory",
                **case.fields,
                "n_future": 1,
                "against": name,
                **summary([peak], "MB"),
                "baseline_value": rounded(other),
                "ratio": rounded(peak / other),
            }
    yield _utilization(case, case.config(), tokens, times["ours"], floor)
    works.clear()
    _forget(device)


def _further_offsets(case: Case, device: str, floor: float) -> Iterator[Row]:
    """Rows of our step at further n against n = 1, and against the device."""
    tokens = case.tokens(device)
    configs = {str(n_future): case.config(n_future) for n_future in (1, *case.further)}
    works = {name: _warmed_up(steps.ours, config, tokens)[0] for name, config in configs.items()}
    times = in_turns(works, device, case.repeats, warmup=0)
    for config in (configs[str(n_future)] for n_future in case.further):
        spent, first = times[str(config.n_future)], times["1"]
        yield _utilization(case, config, tokens, spent, floor)
        work = training_flops_per_token(config) / training_flops_per_token(configs["1"])
        row = {
            "benchmark": "n_future_cost",
            **case.fields,
            "n_future": config.n_future,
            **summary([1000 * each for each in spent], "ms"),
            "baseline_value": rounded(1000 * quartiles(first)[1]),
            "time_ratio": ratio(spent, first)["ratio"],
            "flops_ratio": rounded(work),
            "target_is": "at most",
        }
        if case.time_target is not None:
            yield {**row, "ratio_of": "time", **ratio(spent, first), "target": case.time_target}
        else:
            over_work = ratio(spent, [work * each for each in first])
            yield {**row, "ratio_of": "time over FLOPs", **over_work, "target": case.cost_target}
    works.clear()
    _forget(device)


def _utilization(case: Case, config: ModelConfig, tokens: Tensor, spent: list[float], floor: float) -> Row:
    """Row of model FLOPs per second divided by the device's rate of matrix products."""
    flops = training_flops_per_token(config)
    reached = [flops * rate / 1e12 for rate in _rates(tokens, spent)]
    return {
        "benchmark": "utilization",
        **case.fields,
        "n_future": config.n_future,
        **summary(reached, "TFLOP/s"),
        "flops_per_token": rounded(flops),
        "floor": rounded(floor),
        "floor_is": "matmul rate",
        **ratio(reached, [floor] * len(reached)),
        "target": case.mfu_target,
        "target_is": "at least",
    }


def _rates(tokens: Tensor, times: list[float]) -> list[float]:
    return [tokens.numel() / spent for spent in times]


def _warmed_up(make: steps.MakeStep, config: ModelConfig, tokens: Tensor) -> tuple[steps.Step, float | None]:
    """A step after its untimed first calls, and on CUDA the peak megabytes of model, optimizer and steps."""
    if tokens.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if tokens.is_cuda else 0
    step = make(config, tokens)
    for _ in range(steps.UNTIMED if tokens.is_cuda else steps.UNTIMED_ON_CPU):
        step()
    return step, (torch.cuda.max_memory_allocated() - before) / 2**20 if tokens.is_cuda else None


def _forget(device: str) -> None:
    """Free models, graphs and compiled code before the next size."""
    gc.collect()
    if device == "cuda":
        torch.compiler.reset()
        torch.cuda.empty_cache()
