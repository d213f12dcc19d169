"""Probes and evaluation of stacked models against those of each model."""

import dataclasses

import numpy as np
import pytest

from playground.model.stack import Stack
from playground.model.transformer import MTPTransformer
from playground.probes.registry import make_probes
from playground.probes.repeated import ProbePass
from playground.training.evaluation import evaluate, evaluate_together
from tasks.base import seeded_generator
from tasks.induction import Induction, InductionConfig
from tasks.polynomial import PolynomialConfig
from tasks.registry import make_task
from tests.cases import small_config

TASKS = {
    "induction": InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=32),
    "polynomial": PolynomialConfig(n_ctx=72, test_per_m=8, quick_per_m=4),
}
ALONG_TRAINING = ("attention", "task_attention", "behaviour", "composition")


def models_of(task, **options):
    config = small_config(d_vocab=task.d_vocab, n_ctx=task.n_ctx, n_future=2, **options)
    return [MTPTransformer(config, seeded_generator(seed)) for seed in range(3)]


def assert_equal(ours, theirs) -> None:
    assert type(ours) is type(theirs)
    for field in dataclasses.fields(ours):
        left, right = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6, err_msg=field.name)
        else:
            assert left == right, field.name


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["independent", "causal", "hydra"])
def test_probes_of_a_stack_are_those_of_each_model(task, kind):
    made = make_task(TASKS[task])
    models = models_of(made, future_heads=kind, n_layers=4)
    probes = make_probes(ALONG_TRAINING, made, 2)
    alone = {name: [measure(model) for model in models] for name, measure in probes.items()}
    stack = Stack(models)
    together = dict(ProbePass(probes)(stack))
    assert list(together) == list(probes)
    for name, results in together.items():
        assert len(results) == 3
        for ours, theirs in zip(results, alone[name], strict=True):
            assert_equal(ours, theirs)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_scores_of_a_stack_are_those_of_each_model(task, full):
    made = make_task(TASKS[task])
    models = models_of(made)
    alone = [evaluate(model, made, full=full) for model in models]
    together = evaluate_together(models, made, Stack(models), full=full)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert [score.value for score in ours.scores] == pytest.approx(
            [score.value for score in theirs.scores], abs=1e-5
        )
        assert [score.count for score in ours.scores] == [score.count for score in theirs.scores]
    assert together[0].loss != together[1].loss


def test_an_error_in_one_evaluation_reaches_the_caller_and_nobody_waits_for_ever():
    made = make_task(TASKS["induction"])
    models = models_of(made)
    calls = []

    class Broken(Induction):
        def evaluate(self, predict, **options):
            calls.append(None)
            if len(calls) == 2:
                raise RuntimeError("broken task")
            return super().evaluate(predict, **options)

    with pytest.raises(RuntimeError, match="broken task"):
        evaluate_together(models, Broken(TASKS["induction"]), Stack(models))
