"""What the probes along training cost at the default schedule, as a share of the training time. Target: under 5%.

The induction preset is trained whole, with n = 1 and 2. For the longer ones one pass of the probes is timed beside training
steps, in turns, and multiplied by the number of passes and steps of the schedule.
"""

import statistics
import tempfile
from collections.abc import Iterator
from typing import Any

from benchmarks.timing import in_turns, seconds
from playground.config import RunConfig
from playground.experiments.presets import make_config
from playground.experiments.runner import train
from playground.model.transformer import MTPTransformer
from playground.probes.registry import make_probes
from playground.training.loop import fit, start_state
from tasks.base import seeded_generator
from tasks.registry import make_task

TARGET = 0.05
REPEATS = 10


def run(device: str) -> Iterator[dict[str, Any]]:
    """A line for each preset and n."""
    kind = "gpu" if device == "cuda" else "cpu"
    for n_future in (1, 2):
        config = make_config(f"induction-{kind}", n_future=n_future)
        with tempfile.TemporaryDirectory() as folder:
            record = train(config, folder).record
        yield _row(config, record.probe_seconds, record.seconds, "whole training")
    for name, n_future in (("stories", 2), ("polynomial", 2), ("bytes", 4)):
        config = make_config(f"{name}-{kind}", n_future=n_future)
        yield _row(config, *_estimate(config, device), "one pass times the schedule")


def _row(config: RunConfig, probes: float, training: float, how: str) -> dict[str, Any]:
    return {
        "benchmark": "probe_overhead", "preset": config.preset, "n_future": config.model.n_future, "measured": how,
        "passes": len(config.train.probe_steps), "probe_seconds": round(probes, 2), "train_seconds": round(training, 1),
        "ratio": round(probes / training, 4), "target": TARGET,
    }  # fmt: skip


def _estimate(config: RunConfig, device: str) -> tuple[float, float]:
    """Seconds of all probes, and of all steps, of a whole training."""
    task = make_task(config.task)
    config = config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    generator = seeded_generator(0, device)
    state = start_state(MTPTransformer(config.model).to(device), config, generator)
    made = {}

    def prepare() -> None:
        made.update(make_probes(config.train.probes, task, config.model.n_future))

    def probes() -> None:
        for measure in made.values():
            measure(state.model).to_dict()

    def step() -> None:
        goal = state.step + 1
        state.pending.clear()
        fit(
            state,
            lambda: task.sample(config.train.batch_size, generator, device),
            config,
            (),
            lambda: state.step >= goal,
        )

    ready = seconds(prepare, device)
    times = in_turns({"probes": probes, "step": step}, device, REPEATS)
    a_pass, a_step = (statistics.median(times[name]) for name in ("probes", "step"))
    return ready + a_pass * len(config.train.probe_steps), a_step * config.train.steps
