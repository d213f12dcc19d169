"""Cost of the probes during training at the default schedule, as a share of the training time. Target: under 5%.

On the CPU the induction preset is trained completely with n = 2. For longer presets, and on CUDA for all, one pass of the
probes and training steps are timed alternately and multiplied by the number of passes and steps of the schedule; the time of
everything that happens once (preparation of the probes, their first passes, and on CUDA their recording) is added.
"""

import tempfile
from collections.abc import Iterator

from benchmarks.steps import UNTIMED, times_over, training_step
from benchmarks.timing import Row, in_turns, ratio, rounded, seconds, summary
from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.probes.registry import make_probes
from playground.probes.repeated import PLAIN, Measure, ProbePass
from playground.running.presets import make_config
from playground.running.runner import train
from playground.training.sampler import Sampler
from tasks.base import seeded_generator
from tasks.registry import make_task

TARGET = 0.05
SEED, REPEATS = 0, 6
LONGER = (("stories", 2), ("polynomial", 2), ("bytes", 4))
"""Presets and their n."""


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """A row for each preset and n."""
    kind = "gpu" if device == "cuda" else "cpu"
    short = ("induction", 2)
    estimated = (short,) if quick else (short, *LONGER) if device == "cuda" else LONGER
    for name, n_future in () if device == "cuda" else (short,):
        least = 1 if quick else None
        config = make_config(f"{name}-{kind}", n_future=n_future, seed=SEED, steps=least, threads=least)
        with tempfile.TemporaryDirectory() as folder:
            record = train(config, folder).record
        yield _row(config, [record.probe_seconds], [record.seconds], "whole training")
    for name, n_future in estimated:
        config = make_config(f"{name}-{kind}", n_future=n_future, seed=SEED)
        yield _row(config, *_estimate(config, device, 2 if quick else REPEATS), "one pass times the schedule")


def _row(config: RunConfig, probes: list[float], training: list[float], how: str) -> Row:
    return {
        "benchmark": "probe_overhead",
        "preset": config.preset,
        "n_future": config.model.n_future,
        "measured": how,
        "seed": config.seed,
        **summary(probes, "s"),
        "passes": len(config.probe_steps),
        "train_seconds": rounded(sorted(training)[len(training) // 2]),
        **ratio(probes, training),
        "target": TARGET,
        "target_is": "at most",
    }


def _estimate(config: RunConfig, device: str, repeats: int) -> tuple[list[float], list[float]]:
    """Estimated seconds of all probes and of all steps of a whole training, for each repeat."""
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    model = MTPTransformer(config.model).to(device)
    sampler = Sampler(task, config.train.batch_size, seeded_generator(SEED, device), device)
    block = times_over(sampler.block, training_step(model, config, sampler))
    made: dict[str, Measure] = {}
    passes, blocks = len(config.probe_steps), config.train.steps / sampler.block

    def prepare() -> None:
        made.update(make_probes(config.train.probes, task, config.model.n_future))

    once = seconds(prepare, device)
    measure = ProbePass(made, recorded=config.train.graphs)

    def probes() -> None:
        for _, results in measure(model):
            results[0].to_dict()

    first = [seconds(probes, device) for _ in range(PLAIN + 1)]
    times = in_turns({"probes": probes, "steps": block}, device, repeats, warmup=UNTIMED)
    once, further = once + sum(first), passes - len(first)
    return [once + spent * further for spent in times["probes"]], [spent * blocks for spent in times["steps"]]
