"""Many seeds at once against one seed, or against many seeds one after another.

On CUDA: whole steps, data included, of 16 stacked models against one, all with compiled layers and as CUDA graphs, for several
batch sizes; a repeat is as many steps as batches are drawn at once. With fewer rows one model fills less of the GPU, and
further models cost less. Targets: at most 2.5 times the time of one, at least 10 million tokens per second in total.

On the CPU: whole short trainings, from the call to the stored runs, with one seed per core: `train_many`, which uses one
process per training, against `train` one after another with all threads.
"""

import dataclasses
import tempfile
from collections.abc import Iterator

from benchmarks.steps import times_over
from benchmarks.timing import Row, Work, in_turns, ratio, summary
from playground.config import RunConfig
from playground.model.transformer import MTPTransformer
from playground.running.cores import threads
from playground.running.presets import make_config
from playground.running.replicas import train_many
from playground.running.runner import train
from playground.training.loop import TrainState, start_state
from playground.training.sampler import Sampler
from playground.training.step import WARM_UP, Learner, make_step
from tasks.base import seeded_generator
from tasks.registry import make_task

SEEDS = 16
CASES = ((1, 1, 3), (1, 4, 3), (1, 16, 5), (1, 128, 5), (2, 128, 5))
"""n, rows of 256 tokens in each model's batch (the preset has 128), and repeats."""
STEPS, CPU_REPEATS = 200, 2


def run(device: str, quick: bool = False) -> Iterator[Row]:
    """A row for each batch size, or on the CPU a single row."""
    if device == "cpu":
        yield _in_processes(5 if quick else STEPS, 1 if quick else CPU_REPEATS)
        return
    for n_future, rows, repeats in CASES[:1] if quick else CASES:
        yield _stacked(n_future, rows, 1 if quick else repeats, device)


def _stacked(n_future: int, rows: int, repeats: int, device: str) -> Row:
    config = make_config("stories-gpu", n_future=n_future)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=rows, compiled=True))
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)

    def steps_of(seeds: int) -> tuple[Work, int]:
        states = [
            start_state(
                MTPTransformer(config.model, seeded_generator(seed)).to(device), config, seeded_generator(seed, device)
            )
            for seed in range(seeds)
        ]
        samplers = [Sampler(task, rows, state.generator, device) for state in states]
        step = make_step([_learner(state, config) for state in states], config)
        for _ in range(WARM_UP + 2):
            step([sampler() for sampler in samplers], [config.optim.lr] * seeds)
        block = samplers[0].block
        return times_over(block, lambda: step([sampler() for sampler in samplers], [config.optim.lr] * seeds)), block

    (one, block), (together, _) = steps_of(1), steps_of(SEEDS)
    times = in_turns({"one": one, "all": together}, device, repeats, warmup=0)
    rates = [block * SEEDS * rows * task.n_ctx / spent for spent in times["all"]]
    return {
        "benchmark": "replicas",
        "size": "1M",
        "n_future": n_future,
        "context": task.n_ctx,
        "rows": rows,
        "seeds": list(range(SEEDS)),
        **summary(rates, "tokens/s"),
        **ratio(times["all"], times["one"]),
        "target": 2.5,
        "target_is": "at most",
        "value_target": 1e7,
    }


def _learner(state: TrainState, config: RunConfig) -> Learner:
    return Learner(model=state.model, optimizer=state.optimizer, optim=config.optim)


def _in_processes(steps: int, repeats: int) -> Row:
    count = threads(None)
    config = make_config("induction-cpu", n_future=2, steps=steps)
    configs = [dataclasses.replace(config, seed=seed) for seed in range(count)]

    def one_after_another() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for one in configs:
                train(one, folder)

    def at_once() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train_many(configs, folder)

    times = in_turns({"one after another": one_after_another, "at once": at_once}, "cpu", repeats, warmup=0)
    return {
        "benchmark": "replicas",
        "size": "induction-cpu",
        "n_future": 2,
        "steps": steps,
        "seeds": list(range(count)),
        **summary(times["at once"], "s"),
        **ratio(times["one after another"], times["at once"]),
        "target": 1.0,
        "target_is": "at least",
    }
