"""Probes measured together, kernel by kernel or recorded as a CUDA graph, against each probe alone."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from playground.config import ClampConfig
from playground.model.clamp import apply_clamp
from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.probes import repeated
from playground.probes.registry import make_probes
from playground.probes.repeated import PLAIN, ProbePass
from tasks.base import seeded_generator
from tasks.induction import InductionConfig
from tasks.registry import make_task
from tests.cases import small_config
from tests.probes.no_trace import leaves_no_trace
from tests.probes.test_together import ALONG_TRAINING, assert_equal

TASK = make_task(InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=32))
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def model_of(seed: int = 0, **options) -> MTPTransformer:
    config = small_config(d_vocab=TASK.d_vocab, n_ctx=TASK.n_ctx, n_future=2, n_layers=4, **options)
    return MTPTransformer(config, seeded_generator(seed))


def change(model: MTPTransformer, seed: int) -> None:
    """Other weights, at the same place."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=seeded_generator(seed)).to(parameter) / 10)


def test_a_pass_gives_what_each_probe_gives_alone_in_the_order_of_the_probes():
    model = model_of()
    probes = make_probes(("behaviour", "agreement", "attention"), TASK, 2)
    with leaves_no_trace(model):
        found = dict(ProbePass(probes)(model))
    assert list(found) == ["behaviour", "agreement", "attention"]
    model = model_of()
    for name, [result] in ProbePass(probes)(model):
        assert_equal(result, probes[name](model))


def test_without_probes_nothing_is_measured():
    assert list(ProbePass({})(model_of())) == []


class FakeGraph:
    """In place of a CUDA graph on a machine that has none: counts."""

    recorded, replayed, fits = 0, 0, True

    def replay(self) -> None:
        FakeGraph.replayed += 1


@contextlib.contextmanager
def fake_capture(graph: FakeGraph) -> Iterator[None]:
    if not FakeGraph.fits:
        raise torch.cuda.OutOfMemoryError("no room")
    FakeGraph.recorded += 1
    yield


@pytest.fixture
def on_a_fake_gpu(monkeypatch):
    for name, value in {"recorded": 0, "replayed": 0, "fits": True}.items():
        monkeypatch.setattr(FakeGraph, name, value)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", fake_capture)
    monkeypatch.setattr(repeated, "device_of", lambda models: torch.device("cuda"))


def test_it_is_recorded_once_after_the_first_passes_and_no_longer_replayed_once_another_model_came(on_a_fake_gpu):
    first, other = model_of(0), model_of(1)
    measure = ProbePass(make_probes(("behaviour", "agreement"), TASK, 2), recorded=True)
    for _ in range(PLAIN):
        dict(measure(first))
    assert (FakeGraph.recorded, FakeGraph.replayed) == (0, 0)
    expected = [dict(measure(first)) for _ in range(2)][-1]
    assert (FakeGraph.recorded, FakeGraph.replayed) == (1, 2)
    assert dict(measure(other))["behaviour"][0].loss[0] != expected["behaviour"][0].loss[0]
    assert_equal(dict(measure(first))["behaviour"][0], expected["behaviour"][0])
    assert (FakeGraph.recorded, FakeGraph.replayed) == (1, 2)


def test_it_is_not_recorded_unless_asked_for(on_a_fake_gpu):
    measure = ProbePass(make_probes(("behaviour",), TASK, 2))
    for _ in range(PLAIN + 2):
        dict(measure(model_of()))
    assert FakeGraph.recorded == 0


def test_what_does_not_fit_into_memory_goes_on_kernel_by_kernel(on_a_fake_gpu):
    FakeGraph.fits = False
    measure = ProbePass(make_probes(("behaviour",), TASK, 2), recorded=True)
    model = model_of()
    results = [dict(measure(model))["behaviour"][0] for _ in range(PLAIN + 3)]
    assert (FakeGraph.recorded, FakeGraph.replayed) == (0, 0)
    assert_equal(results[-1], results[0])


@pytest.mark.parametrize("on_the_way_out", [False, True])
def test_running_out_of_memory_is_known_by_what_the_end_of_the_capture_says_too(
    on_a_fake_gpu, monkeypatch, on_the_way_out
):
    @contextlib.contextmanager
    def invalid(graph: FakeGraph) -> Iterator[None]:
        try:
            yield
            if on_the_way_out:
                raise torch.cuda.OutOfMemoryError("no room")
        finally:
            raise RuntimeError("the capture is not valid")

    monkeypatch.setattr(torch.cuda, "graph", invalid)
    measure, model = ProbePass(make_probes(("behaviour",), TASK, 2), recorded=True), model_of()
    for _ in range(PLAIN):
        dict(measure(model))
    if on_the_way_out:
        assert dict(measure(model))["behaviour"]
    else:
        with pytest.raises(RuntimeError, match="the capture is not valid"):
            dict(measure(model))


@needs_gpu
@pytest.mark.parametrize("kind", ["independent", "causal", "hydra"])
@pytest.mark.parametrize("clamp", [ClampConfig(), ClampConfig(forbid_previous_token=("all",))], ids=["free", "clamped"])
def test_recorded_probes_read_the_weights_of_now(kind, clamp):
    model = model_of(future_heads=kind).cuda()
    apply_clamp(model, clamp)
    probes = make_probes(ALONG_TRAINING, TASK, 2)
    measure = ProbePass(make_probes(ALONG_TRAINING, TASK, 2), recorded=True)
    losses = set()
    for step in range(PLAIN + 4):
        for name, [result] in measure(model):
            assert_equal(result, probes[name](model))
        losses.add(float(dict(measure(model))["behaviour"][0].loss[0]))
        change(model, step)
    assert measure._graph is not None
    assert len(losses) == PLAIN + 4


@needs_gpu
def test_recorded_probes_of_a_stack_one_of_which_diverged():
    models = [model_of(seed).cuda() for seed in range(3)]
    stack = Stack(models)
    probes = make_probes(ALONG_TRAINING, TASK, 2)
    measure = ProbePass(make_probes(ALONG_TRAINING, TASK, 2), recorded=True)
    for step in range(PLAIN + 3):
        dict(measure(stack))
        for model in models:
            change(model, step)
    with torch.no_grad():
        models[1].embed.weight.fill_(torch.nan)
    found = dict(measure(stack))
    assert measure._graph is not None
    assert np.isnan(found["behaviour"][1].loss).all()
    for name, results in found.items():
        for index in (0, 2):
            assert_equal(results[index], probes[name](models[index]))
