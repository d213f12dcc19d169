"""What a training needs at least is known before it starts, and what is measured on few layers holds for many."""

import dataclasses
import time

import pytest

from playground.config import BaseConfig, ModelConfig, RunConfig
from playground.model.parameters import count_parameters
from playground.model.transformer import MTPTransformer
from playground.running.presets import PRESETS, make_config
from playground.training import memory
from playground.training.memory import MOST_KEPT, PER_PARAMETER, SPARE, check_memory, least_bytes, training_bytes
from playground.training.objectives.n_token import NToken
from tasks.base import Task, seeded_generator
from tasks.registry import make_task

GIB = 2**30


def kept_by_whole_model(config: RunConfig, task: Task, *, half: bool) -> int:
    """What a forward pass on one row more keeps, with all layers built."""
    model = MTPTransformer(config.model)
    model.recompute = config.train.recompute
    batch = task.sample(2, seeded_generator(0))
    one, two = (memory._kept_bytes(model, NToken(), batch.rows(0, rows), half=half) for rows in (1, 2))
    return max(one, two - one)


FORMS = [
    ("gated", "RMS", "rotary", False, False),
    ("none", "LN", "standard", False, False),
    ("gated", "LN", "rotary", True, True),
    ("none", "RMS", "standard", False, True),
]
KINDS = [(kind, *form) for kind in ("independent", "linear", "hydra") for form in FORMS]


@pytest.mark.parametrize(("kind", "mlp", "normalization", "positions", "recompute", "half"), KINDS)
def test_few_layers_tell_what_many_keep(kind, mlp, normalization, positions, recompute, half):
    config = make_config("induction-cpu", n_future=2)
    sizes = {"n_layers": 6, "n_heads": 2, "d_model": 32}
    forms = {"future_heads": kind, "mlp": mlp, "normalization": normalization, "positions": positions}
    model = dataclasses.replace(config.model, **sizes, **forms)
    train = dataclasses.replace(config.train, batch_size=1, recompute=recompute)
    task = make_task(config.task)
    config = dataclasses.replace(config, model=model, train=train).resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    kept = kept_by_whole_model(config, task, half=half)
    parameters, least = least_bytes(config, half=half)
    assert parameters == PER_PARAMETER * sum(
        parameter.numel() for parameter in MTPTransformer(config.model).parameters()
    )
    estimate = training_bytes(config, task, "cuda" if half else "cpu") / SPARE - parameters
    assert estimate == pytest.approx(kept, rel=0.01)
    assert least <= kept < MOST_KEPT * least


def vast(**changes: object) -> RunConfig:
    config = make_config("induction-cpu")
    sizes = {name: value for name, value in changes.items() if name not in ("batch_size", "recompute", "accumulate")}
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **sizes),
        train=dataclasses.replace(
            config.train, **{name: value for name, value in changes.items() if name not in sizes}
        ),
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (vast(n_layers=1000, d_model=100_000, n_heads=1000), "write a smaller d_model, n_layers or d_vocab"),
        (vast(n_layers=1000, d_model=2**14, n_heads=128), "write a smaller d_model, n_layers or d_vocab"),
        (vast(batch_size=1_000_000), "write a smaller batch_size, a larger accumulate, or recompute"),
        (vast(batch_size=1_000_000, n_layers=300, recompute=True), "write a smaller batch_size, a larger accumulate"),
    ],
)
def test_what_is_far_too_large_is_refused_at_once_with_both_numbers(config, said):
    task, started = make_task(config.task), time.process_time()
    with pytest.raises(
        MemoryError, match=r"^one training needs at least [\d,.]+ GiB \(.*\), and 16\.0 GiB are free on cpu"
    ) as caught:
        check_memory(config, task, "cpu", free=16 * GIB)
    assert said in str(caught.value) and time.process_time() - started < 0.5


@pytest.mark.parametrize("name", [name for name in PRESETS if name.endswith("-cpu")])
def test_presets_are_not_refused_where_they_fit(name):
    config = make_config(name)
    check_memory(config, make_task(config.task), "cpu", free=8 * GIB)


def test_near_the_limit_it_is_measured_what_is_kept():
    config = dataclasses.replace(make_config("induction-cpu", n_future=2))
    task = make_task(config.task)
    needed = int(training_bytes(config, task, "cpu") / SPARE)
    least = sum(least_bytes(config.resolve(d_vocab=task.d_vocab, n_ctx=task.n_ctx), half=False))
    check_memory(config, task, "cpu", free=needed)  # head by head less than that is kept at a time
    assert least < needed // 2
    with pytest.raises(MemoryError, match="write a smaller batch_size"):
        check_memory(config, task, "cpu", free=needed // 2)


def test_rows_are_shared_by_parts_and_processes_and_parameters_under_fsdp():
    config = vast(batch_size=64, accumulate=2).resolve(d_vocab=64, n_ctx=64)
    parameters, kept = least_bytes(config, half=False)
    assert least_bytes(config, half=False, processes=4) == (parameters, kept // 4)
    whole = vast(batch_size=64).resolve(d_vocab=64, n_ctx=64)
    assert least_bytes(whole, half=False)[1] == 2 * kept
    sharded = dataclasses.replace(whole, train=dataclasses.replace(whole.train, parallel="fsdp", backward="one_graph"))
    assert least_bytes(sharded, half=False, processes=4) == (parameters // 4, kept // 2)


def test_a_frozen_trunk_needs_its_weights_only():
    config = make_config("induction-cpu", n_future=2, control="trunk")
    config = dataclasses.replace(config, base=BaseConfig(run="a")).resolve(d_vocab=64, n_ctx=64)
    assert least_bytes(config, half=False) == (4 * count_parameters(config.model).total, 0)


def test_parameters_of_the_largest_models_are_counted_at_once():
    started = time.process_time()
    largest = ModelConfig(
        n_layers=1000, d_model=100_000, n_heads=1000, n_future=256, d_vocab=10_000_000, n_ctx=1_000_000
    )
    assert count_parameters(largest).total > 10**14 and time.process_time() - started < 0.5
