"""Trainings with every type of future heads: they learn, go on after a stop as if there had been none, and can be probed."""

import dataclasses
import math

import pytest
import torch

from playground.analysis.formation import formation
from playground.analysis.groups import group_runs
from playground.config import OptimConfig, RunConfig, TrainConfig
from playground.model.parameters import count_parameters
from playground.results import Knockout
from playground.running.runner import resume, train
from tasks.induction import InductionConfig
from tests.cases import FUTURE_HEADS, random_tokens, small_config

STEPS = 12


def config(kind: str, unembedding: str = "shared") -> RunConfig:
    return RunConfig(
        task=InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=16),
        model=small_config(
            n_layers=4, n_future=3, d_vocab=None, n_ctx=None, future_heads=kind, unembedding=unembedding
        ),
        optim=OptimConfig(lr=1e-2, warmup_steps=2),
        train=TrainConfig(
            steps=STEPS,
            batch_size=8,
            eval_every=6,
            log_every=3,
            checkpoint_every=6,
            threads=1,
            probe_points=3,
            probes=("attention", "task_attention", "composition", "behaviour", "knockout"),
        ),
    )


@pytest.mark.parametrize("kind", FUTURE_HEADS)
def test_a_run_of_every_type_trains_resumes_and_probes(kind, tmp_path):
    wanted = config(kind, "replicated" if kind in ("independent", "causal", "linear") else "shared")
    whole = train(wanted, tmp_path / "whole")
    label = "" if kind == "independent" else f"-{kind}"
    assert whole.id.startswith(f"induction-n3{label}")
    seen = iter(range(STEPS))
    part = train(wanted, tmp_path / "part", should_stop=lambda: "enough" if next(seen) >= 7 else "")
    assert part.record.status == "stopped" and part.record.step < STEPS
    part = resume(part)
    assert part.record.status == "finished"
    ours, theirs = whole.model().state_dict(), part.model().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    rows = whole.metrics[whole.metrics["kind"] == "train"]
    losses = rows[[f"loss_{k}" for k in (1, 2, 3)]].to_numpy(dtype=float)
    assert (losses[-1] < losses[0]).all()
    model = whole.model()
    assert model.config.future_heads == whole.record.future_heads == kind
    assert whole.record.parameters["total"] == count_parameters(model.config).total
    assert whole.record.next_token_depth == model.config.next_token_depth
    assert model(random_tokens(), (1, 2, 3)).isfinite().all()

    assert whole.history("knockout", Knockout).steps[-1] == STEPS
    events = formation(whole).main
    assert {event.name for event in events} >= {"previous token", "induction", "2-ahead induction"}
    used = next(event for event in events if event.name == "2-ahead induction").subject
    own = {f"future_heads.{index}" for index in model.path(2)}
    assert used.startswith("blocks.") or used.rpartition(".")[0] in own
    assert all(math.isfinite(value) for value in whole.record.final.values())


def test_both_backwards_train_the_same_model(tmp_path):
    for kind in ("sequential", "medusa_mlp"):
        wanted = config(kind)
        plain = dataclasses.replace(wanted, train=dataclasses.replace(wanted.train, backward="one_graph", probes=()))
        models = [train(one, tmp_path / f"{kind}-{i}").model() for i, one in enumerate((wanted, plain))]
        for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_groups_tell_types_apart_and_older_runs_are_independent():
    configs = {kind: config(kind).to_dict() for kind in ("independent", "causal", "linear")}
    configs["old"] = config("independent").to_dict()
    del configs["old"]["model"]["future_heads"], configs["old"]["model"]["unembedding"]
    configs["bytes"] = config("causal", "replicated").to_dict()
    groups = group_runs(configs)
    assert {run: group.label for run, group in groups.items()} == {
        "independent": "n = 3, layers",
        "old": "n = 3, layers",
        "causal": "n = 3, causal, layers",
        "linear": "n = 3, linear, layers",
        "bytes": "n = 3, causal, replicated, layers",
    }
    assert groups["old"] == groups["independent"]
    assert sorted(group.variant for group in set(groups.values())) == [0, 1, 2, 3]


def test_with_one_offset_all_types_but_linear_are_one_group():
    def one(kind: str, unembedding: str) -> dict:
        wanted = config(kind, unembedding)
        return dataclasses.replace(wanted, model=dataclasses.replace(wanted.model, n_future=1)).to_dict()

    groups = group_runs({kind: one(kind, "replicated") for kind in FUTURE_HEADS} | {"a": one("independent", "shared")})
    assert groups["linear"].label == "n = 1, linear"
    assert {group.label for run, group in groups.items() if run != "linear"} == {"n = 1"}
