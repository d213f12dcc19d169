"""Runs on a base: offset 1 stays the base's to the last bit, they stop, resume and are probed like others, and refusals."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from playground import make_config_on
from playground.analysis.groups import experiment_hash, group_runs
from playground.cli import main
from playground.config import BaseConfig, ClampConfig, OptimConfig, RunConfig, TrainConfig, future_head_type
from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from playground.model.transformer import MTPTransformer
from playground.probes.catalogue import all_probes
from playground.running.base import open_base
from playground.running.runner import resume, train
from playground.runs.errors import RunError
from playground.runs.lock import run_lock
from playground.runs.store import Run, load_run
from playground.runs.writing import write_json
from playground.training.base import is_further
from tasks.induction import InductionConfig
from tests.cases import FUTURE_HEADS, random_tokens, small_config
from tests.fake_runs import settle
from tests.running.test_runner import same_numbers

STEPS = 12
FITTING = [kind for kind in FUTURE_HEADS if future_head_type(kind).fits_base]


def base_config(seed: int = 0, **model) -> RunConfig:
    return RunConfig(
        task=InductionConfig(n_ctx=16, d_vocab=11, min_distance=3, max_distance=6, test_rows=16),
        model=small_config(**({"d_vocab": None, "n_ctx": None} | model)),
        optim=OptimConfig(lr=1e-2, warmup_steps=2, weight_decay=0.5),
        train=TrainConfig(
            steps=STEPS, batch_size=8, eval_every=6, log_every=3, checkpoint_every=6, threads=1, probe_points=2, device="cpu",
            probes=("attention",),
        ),
        seed=seed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Run:
    return train(base_config(), tmp_path_factory.mktemp("base"), run_id="base")


@pytest.fixture
def copied(base, tmp_path) -> Run:
    """A base that a test may change."""
    return load_run(shutil.copytree(base.path, tmp_path / "runs" / "base"))


def change(run: Run, part: str = "run.json", **values) -> Run:
    stored = json.loads((run.path / part).read_text())
    write_json(run.path / part, stored | values)
    return load_run(run.path)


def with_model(config: RunConfig, **model) -> RunConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **model))


# --- what a run on a base is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "unembedding"), [
    *((kind, "shared") for kind in FITTING), ("medusa_mlp", "replicated"), ("independent", "replicated"),
])  # fmt: skip
def test_offset_1_stays_the_bases_to_the_last_bit_and_the_others_learn(base, kind, unembedding, tmp_path):
    run = train(make_config_on(base, n_future=3, future_heads=kind, unembedding=unembedding), tmp_path)
    weights = [load_file(one.path / "checkpoints" / str(STEPS) / "weights.safetensors") for one in (base, run)]
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())
    assert set(weights[1]) - set(weights[0]) == {name for name in weights[1] if is_further(name)}
    first = run.model(0).state_dict()
    assert all(not torch.equal(weights[1][name], first[name]) for name in weights[1] if is_further(name))

    theirs, ours = base.model(), run.model()
    tokens = random_tokens()
    assert torch.equal(ours(tokens), theirs(tokens))
    prompts = [[1, 2, 3], [4, 5, 1, 2], [7]]

    def text(model: MTPTransformer, speculative: int | None = None) -> list[tuple[int, ...]]:
        decoding = generate(model, prompts, DecodingConfig(max_new_tokens=8, speculative=speculative))
        return [tuple(row.tokens) for row in decoding.decoded]

    assert text(theirs) == text(ours) == text(ours, speculative=3)

    rows = run.metrics
    evaluated = rows[rows["kind"] == "eval"]
    theirs_at_the_end = base.metrics["test_loss_1"].dropna().tolist()[-1]
    assert evaluated["test_loss_1"].tolist() == [theirs_at_the_end] * len(evaluated)
    losses = rows[rows["kind"] == "train"][["loss_1", "loss_2", "loss_3"]].to_numpy(dtype=float)
    assert np.isfinite(losses).all()
    further = evaluated[["test_loss_2", "test_loss_3"]].to_numpy(dtype=float)
    assert (further[-1] != further[0]).all()


def test_the_run_says_what_it_stands_on(base, tmp_path):
    config = make_config_on(base, n_future=3, steps=3)
    run = train(config, tmp_path)
    assert run.id.startswith("induction-n3-medusa_mlp-trunk-on-base-s0-")
    record = run.record
    assert (record.base, record.base_config_hash, record.base_step) == ("base", base.config.hash(), STEPS)
    assert run.config.base == BaseConfig(
        run=str(base.path.resolve()),
        config_hash=base.config.hash(),
        experiment=experiment_hash(base.config.to_dict()),
    )
    assert RunConfig.from_dict(json.loads(json.dumps(run.config.to_dict()))) == run.config
    assert run.record.next_token_depth == base.record.next_token_depth
    assert (run.record.steps, run.config.task, run.config.optim) == (3, base.config.task, base.config.optim)
    assert load_run(base.path).record.base == ""


def test_the_configuration_may_be_made_by_hand_with_an_id(base, tmp_path):
    by_hand = dataclasses.replace(
        with_model(base_config(), n_future=3, control="trunk", future_heads="medusa_mlp"), base=BaseConfig(run="base")
    )
    run = train(by_hand, base.path.parent, run_id="by-hand")
    helped = train(make_config_on(base.path, n_future=3), tmp_path)
    assert run.config == helped.config
    same_numbers(run.path, helped.path)


def test_make_config_on_keeps_what_is_not_given(base):
    config = make_config_on(base)
    assert (config.model.n_future, config.model.future_heads, config.model.unembedding) == (4, "medusa_mlp", "shared")
    assert (config.seed, config.train, config.preset) == (0, base.config.train, None)
    other = make_config_on(str(base.path), seed=5, steps=7, threads=2, n_future=2, future_heads="hydra")
    assert (other.seed, other.train.steps, other.train.threads, other.model.n_future) == (5, 7, 2, 2)


def test_runs_without_a_base_keep_their_json_and_hash_and_where_a_base_lies_does_not_matter(base):
    assert "base" not in base_config().to_dict()
    config = make_config_on(base)
    moved = dataclasses.replace(config, base=dataclasses.replace(config.base, run="/elsewhere"))
    assert moved.hash() == config.hash()
    other = dataclasses.replace(config, base=dataclasses.replace(config.base, config_hash="00000000"))
    assert len({config.hash(), other.hash(), dataclasses.replace(config, base=None).hash()}) == 3


def test_heads_on_bases_that_repeat_one_another_are_one_group(base):
    def on(seed: int, experiment: str) -> dict:
        config = make_config_on(base, seed=seed)
        return dataclasses.replace(
            config, base=BaseConfig(run=f"/runs/{seed}", config_hash=f"{seed}" * 8, experiment=experiment)
        ).to_dict()

    configs = {"a": on(0, "one"), "b": on(1, "one"), "c": on(2, "two")}
    configs["joint"] = {name: value for name, value in configs["a"].items() if name != "base"}
    groups = group_runs(configs)
    assert groups["a"] == groups["b"] != groups["c"]
    assert groups["a"].label.startswith("n = 4, medusa_mlp, trunk, on a base")
    assert groups["joint"].label == "n = 4, medusa_mlp, trunk"


# --- it is a run like others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["medusa_mlp", "hydra", "independent"])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened_without_its_base(copied, kind, tmp_path):
    config = make_config_on(copied, n_future=3, future_heads=kind, unembedding="replicated")
    whole = train(config, tmp_path / "whole")
    seen = iter(range(STEPS))
    part = train(config, tmp_path / "part", should_stop=lambda: "enough" if next(seen) >= 7 else "")
    assert (part.record.status, part.record.step) == ("stopped", 7)
    shutil.rmtree(copied.path)
    part = resume(part)
    assert part.record.status == "finished"
    same_numbers(part.path, whole.path)


def test_a_run_killed_before_its_first_checkpoint_starts_over_from_its_base(copied, tmp_path):
    config = make_config_on(copied, n_future=2, steps=4)
    whole = train(config, tmp_path / "whole")
    part = train(config, tmp_path / "part")
    shutil.rmtree(part.path / "checkpoints")
    lines = (part.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (part.path / "metrics.jsonl").write_text("".join(line for line in lines if json.loads(line)["step"] == 0))
    part = change(part, status="stopped", step=0, final={})
    hidden = copied.path.rename(tmp_path / "hidden")
    with pytest.raises(RunError, match="there is no run"):
        resume(part)
    hidden.rename(copied.path)
    same_numbers(resume(load_run(part.path)).path, whole.path)


def test_both_backwards_train_the_same_heads(base, tmp_path):
    config = make_config_on(base, n_future=3, future_heads="hydra")
    plain = dataclasses.replace(config, train=dataclasses.replace(config.train, backward="one_graph"))
    models = [train(one, tmp_path / str(i)).model() for i, one in enumerate((config, plain))]
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)


def test_probes_run_along_the_training(base, tmp_path):
    config = make_config_on(base, n_future=2, steps=1)
    names = ("knockout", "gradients", "lens", "linear", "agreement", "composition")
    probed = dataclasses.replace(config, train=dataclasses.replace(config.train, probes=names))
    run = train(probed, tmp_path)
    assert run.record.status == "finished"
    assert all(run.history(name, all_probes()[name].result).steps[-1] == 1 for name in names)


def test_clamped_patterns_of_the_base_stay_and_frozen_heads_of_it_no_longer_matter(tmp_path):
    clamp = ClampConfig(forbid_previous_token=("blocks.0.0",), freeze_heads=("blocks.1.1",))
    clamped = train(dataclasses.replace(base_config(), clamp=clamp), tmp_path)
    config = make_config_on(clamped, n_future=3)
    assert config.clamp == ClampConfig(forbid_previous_token=("blocks.0.0",))
    run = train(config, tmp_path)
    assert torch.equal(run.model()(random_tokens()), clamped.model()(random_tokens()))
    with pytest.raises(ValueError, match="forbid_previous_token names other heads of the base's layers"):
        train(dataclasses.replace(config, clamp=ClampConfig()), tmp_path)
    more = ClampConfig(forbid_previous_token=("blocks.0.0", "future_heads.1"))
    layers = with_model(config, future_heads="independent")
    assert open_base(dataclasses.replace(layers, clamp=more).resolve(d_vocab=11, n_ctx=16)) is not None


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "message"), [
    ({"n_future": 1}, "write n_future=2 or more"),
    ({"future_heads": "linear"}, "linear future heads cannot stand on a base: .* write one of causal, hydra, "
                                 "independent, medusa_linear, medusa_mlp, sequential"),
    ({"future_heads": "anticausal", "n_future": 2}, "anticausal future heads cannot stand on a base"),
])  # fmt: skip
def test_heads_that_cannot_stand_on_a_base(base, model, message):
    with pytest.raises(ValueError, match=message):
        make_config_on(base, **model)
    with pytest.raises(ValueError, match=message):
        with_model(make_config_on(base, n_future=2), **({"n_future": 2} | model))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"status": "stopped", "step": 6}, "base run base is stopped at step 6 of 12; finish it first: .* resume base"),
        ({"status": "failed", "step": 6}, "base run base is failed at step 6 of 12; finish it first"),
    ],
)
def test_unfinished_bases_are_refused(copied, values, message):
    config = make_config_on(copied)
    run = change(copied, **values)
    with pytest.raises(RunError, match=message):
        make_config_on(run)
    with pytest.raises(RunError, match=message):
        train(config, copied.path.parent)


def test_a_base_that_still_trains_is_refused(copied):
    run = change(copied, status="running", step=6)
    with run_lock(run.path), pytest.raises(RunError, match="base run base is running at step 6 of 12; wait for it"):
        make_config_on(run)


@pytest.mark.parametrize("gone", ["checkpoints", "checkpoints/12", "checkpoints/12/weights.safetensors"])
def test_bases_without_their_last_weights_are_refused(copied, gone):
    path = copied.path / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(RunError, match="base run base has no weights of its last step, 12"):
        make_config_on(copied)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"n_future": 2}, "predicts 2 tokens; write a run with n_future 1"),
        ({"future_heads": "linear"}, "has linear future heads, .* need a layer for offset 1"),
    ],
)
def test_models_that_are_no_base(model, message, tmp_path):
    config = base_config(**model)
    wrong = train(dataclasses.replace(config, train=dataclasses.replace(config.train, steps=1, probes=())), tmp_path)
    with pytest.raises(RunError, match=message):
        make_config_on(wrong)


def test_a_base_that_is_not_there_or_another_than_before(copied):
    config = make_config_on(copied)
    folder = copied.path.parent
    with pytest.raises(RunError, match=r"there is no run 'bass' in .*; did you mean 'base'"):
        train(dataclasses.replace(config, base=BaseConfig(run="bass")), folder)
    with pytest.raises(ValueError, match="base names no run"):
        BaseConfig(run="")
    change(copied, "config.json", seed=9)
    settle(copied.path)
    with pytest.raises(RunError, match="base run base is not the run that this configuration"):
        train(config, folder)
    assert [path.name for path in folder.iterdir()] == ["base"]


@pytest.mark.parametrize(("model", "message"), [
    ({"d_model": 32}, "d_model is 32, and in base run base it is 16; write d_model=16 or leave it out"),
    ({"n_layers": 4}, "n_layers is 4, and in base run base it is 3"),
    ({"n_heads": 4}, "n_heads is 4, and in base run base it is 2"),
    ({"mlp": "gelu"}, "mlp is 'gelu', and in base run base it is 'gated'; write mlp='gated'"),
    ({"normalization": "LN"}, "normalization is 'LN'"),
    ({"positions": "standard"}, "positions is 'standard'"),
    ({"rotary_base": 100.0}, "rotary_base is 100.0"),
    ({"eps": 1e-3}, "eps is 0.001"),
    ({"future_heads": "independent", "control": "layers", "n_future": 2},
     "control 'layers' leaves the trunk 1 layers, and that of base run base has 2; write control='trunk'"),
])  # fmt: skip
def test_other_models_than_the_bases_are_refused(base, model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(with_model(make_config_on(base), **model), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"d_vocab": 13}, "the task has d_vocab 13, and base run base has 11 tokens"),
        ({"n_ctx": 20}, "the task has n_ctx 20, and base run base has 16 positions"),
    ],
)
def test_other_tasks_than_the_bases_are_refused(base, task, message, tmp_path):
    config = make_config_on(base)
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(config, task=dataclasses.replace(config.task, **task)), tmp_path)


def test_another_task_of_the_same_shape_is_refused(base, tmp_path):
    from tasks.stories import StoriesConfig

    config = dataclasses.replace(
        make_config_on(base), task=StoriesConfig(n_ctx=48, test_stories=4, n_words=4, n_templates=8)
    )
    with pytest.raises(
        ValueError, match="the task is stories, and base run base was trained on induction; write that task"
    ):
        train(config, tmp_path)


def test_strict_reading_of_a_base():
    values = base_config().to_dict()
    with pytest.raises(ValueError, match="base has no field 'runs'; did you mean 'run'"):
        RunConfig.from_dict(values | {"base": {"runs": "a"}})
    with pytest.raises(ValueError, match="base is 'a'; it must be a dictionary of its fields"):
        RunConfig.from_dict(values | {"base": "a"})


# --- the command line -----------------------------------------------------------------------------------------------


def test_train_base_takes_everything_else_from_the_run(copied, capsys):
    folder = str(copied.path.parent)
    argv = ["train", "--base", "base", "--runs-dir", folder, "--json", "--steps", "3"]
    assert main([*argv, "--n-future", "3", "--future-heads", "hydra", "--unembedding", "replicated"]) == 0
    assert main(argv) == 0
    ours, usual = (load_run(json.loads(line)["path"]) for line in capsys.readouterr().out.splitlines())
    assert ours.config == make_config_on(copied, n_future=3, future_heads="hydra", unembedding="replicated", steps=3)
    assert usual.config == make_config_on(copied, steps=3)
    assert main(["compare", "base", ours.id, "--runs-dir", folder]) == 0
    assert main(["runs", "show", ours.id, "--runs-dir", folder]) == 0


@pytest.mark.parametrize(("more", "message"), [
    (["--preset", "induction-cpu"], "--base and --preset were both given, and a base has its own task and sizes; leave one out"),
    (["--task", "induction"], "--base and --task were both given, and a base has its own task and sizes; leave one out"),
    (["--size", "1M"], "--base and --size were both given, and a base has its own task and sizes; leave one out"),
    (["--d-model", "32"], "d_model is 32, and in base run base it is 16; write d_model=16 or leave it out"),
    (["--future-heads", "linear"], "linear future heads cannot stand on a base"),
    (["--future-heads", "anticausal"], "anticausal future heads cannot stand on a base"),
    (["--n-future", "1"], "write n_future=2 or more"),
    (["--n-ctx", "20"], "the task has n_ctx 20, and base run base has 16 positions"),
])  # fmt: skip
def test_contradictions_on_the_command_line_are_one_sentence(base, more, message, capsys):
    assert main(["train", "--base", "base", "--runs-dir", str(base.path.parent), *more]) != 0
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1


def test_a_base_that_is_not_there_is_one_sentence(base, capsys):
    assert main(["train", "--base", "nobody", "--runs-dir", str(base.path.parent)]) != 0
    assert "there is no run 'nobody' in" in capsys.readouterr().err
