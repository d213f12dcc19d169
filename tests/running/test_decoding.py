"""Decoding with stored runs: prompts, models that can and cannot be loaded, trees, and speed side by side."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch

from playground.generation.config import DecodingConfig, Sampling
from playground.generation.generate import generate
from playground.generation.marginal import candidate_hits
from playground.generation.tree import Tree, best_tree, chain
from playground.model.clamp import apply_clamp
from playground.results import Acceptance, DecodingSpeed, MarginalAcceptance
from playground.running.decoding import (
    NEW_TOKENS,
    choose_tree,
    default_new_tokens,
    load_for_decoding,
    measure_decoding,
    new_token_room,
    prompt_tokens,
    task_prompts,
)
from playground.runs.checkpoint import WEIGHTS
from playground.runs.errors import RunError
from playground.runs.store import load_run
from playground.runs.writing import write_json
from tasks import make_task
from tests.cases import small_model
from tests.fake_runs import settle, write_run, write_weights
from tests.generation.test_marginal import counting
from tests.probes.no_trace import leaves_no_trace

POLYNOMIAL = {"prime": 3, "coefficients": 2, "max_operations": 2, "test_operations": 3, "n_ctx": 20, "test_per_m": 30,
              "quick_per_m": 30}  # fmt: skip
PROMPTS = [[1, 2, 3], [4, 5], [6]]
CHAIN = DecodingConfig(max_new_tokens=9, speculative=3)


# --- prompts --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("".join(f"line {number} is here\n" for number in range(300)))
    return str(path)


def test_prompts_end_before_the_first_scored_token():
    task = make_task("polynomial", **POLYNOMIAL)
    prompts = task_prompts(task, 6)
    assert [task.decode(prompt)[-1] for prompt in prompts] == ["="] * 6
    batch = task.test_batch(6)
    for prompt, row, scored in zip(prompts, batch.tokens, batch.score_mask, strict=True):
        assert prompt == row[: len(prompt)].tolist() and not scored[: len(prompt)].any() and scored[len(prompt)]


def test_of_random_repeats_the_first_block_and_one_token_is_the_prompt():
    task = make_task("induction", min_distance=3, max_distance=6, n_ctx=16, test_rows=8, quick_rows=8)
    distances = task.test_batch(8).info["distance"].tolist()
    assert [len(prompt) for prompt in task_prompts(task, 8)] == [distance + 1 for distance in distances]


def test_where_everything_is_scored_the_prompt_is_half_the_row(text_file):
    task = make_task("bytes", path=text_file, n_ctx=24)
    assert {len(prompt) for prompt in task_prompts(task, 5)} == {12}
    assert task_prompts(task, 1)[0] == task.test_batch(1).tokens[0, :12].tolist()


def test_a_length_may_be_given_and_padding_is_no_prompt():
    task = make_task("polynomial", **POLYNOMIAL)
    assert [len(prompt) for prompt in task_prompts(task, 3, length=4)] == [4, 4, 4]
    real = (task.test_batch(6).documents >= 0).sum(dim=1).tolist()
    assert [len(prompt) for prompt in task_prompts(task, 6, length=99)] == real


def test_there_are_no_more_prompts_than_test_rows():
    assert len(task_prompts(make_task("polynomial", **POLYNOMIAL), 10_000)) == 90


def test_stories_are_continued_inside_a_name():
    task = make_task("stories")
    (prompt,) = task_prompts(task, 1)
    assert 1 < len(prompt) < task.n_ctx and bool(task.test_batch(1).score_mask[0, len(prompt)])


@pytest.mark.parametrize(("count", "length", "message"), [(0, None, "count is 0"), (1, 0, "length is 0")])
def test_prompts_of_nothing_are_refused(count, length, message):
    with pytest.raises(ValueError, match=message):
        task_prompts(make_task("polynomial", **POLYNOMIAL), count, length)


def test_text_becomes_tokens_or_a_sentence(tmp_path):
    task = make_task("polynomial", **POLYNOMIAL)
    assert prompt_tokens(task, "| 1 2 =") == task.encode("| 1 2 =")
    assert prompt_tokens(load_run(write_run(tmp_path, steps=2)), "3 1") == [3, 1]
    with pytest.raises(ValueError, match="word 2, '9', is no token of this task"):
        prompt_tokens(task, "1 9")


def test_how_many_new_tokens():
    assert default_new_tokens(make_task("polynomial", **POLYNOMIAL)) == 2
    assert default_new_tokens(make_task("induction")) == NEW_TOKENS
    assert new_token_room([[1] * 10, [1] * 4], 12) == 3


# --- loading --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = write_run(tmp_path_factory.mktemp("runs"), steps=20, n_future=2)
    write_weights(path, [0, 20])
    return path


@pytest.fixture
def stored(original, tmp_path):
    """A run with weights, for tests that break it."""
    return shutil.copytree(original, tmp_path / original.name)


def test_a_run_is_loaded_at_its_last_step_or_another(stored):
    loaded = load_for_decoding(load_run(stored))
    assert (loaded.step, loaded.cached, loaded.model.n_future, loaded.task.d_vocab) == (20, True, 2, 64)
    assert not loaded.model.training
    assert load_for_decoding(load_run(stored), 0).step == 0


def test_a_clamped_run_is_decoded_without_a_cache(stored):
    config = json.loads((stored / "config.json").read_text())
    config["clamp"]["force_previous_token"] = ["blocks.0.0"]
    write_json(stored / "config.json", config)
    settle(stored)
    loaded = load_for_decoding(load_run(stored))
    assert not loaded.cached
    speed = measure_decoding(
        loaded.model, [[1, 2]], DecodingConfig(max_new_tokens=3, speculative=2), 1, cached=loaded.cached
    )
    assert speed.identical and not speed.cached


@pytest.mark.parametrize(
    ("state", "advice"),
    [("stopped", "train it: python -m playground resume"), ("running", "wait for its first checkpoint"),
     ("failed", "train it"), ("interrupted", "train it")],
)  # fmt: skip
def test_a_run_without_weights_says_what_to_do(tmp_path, state, advice):
    run = load_run(write_run(tmp_path, steps=20, state=state))
    with pytest.raises(RunError, match=rf"run {run.id} \({state}\) has stored no weights to decode with; {advice}"):
        load_for_decoding(run)


def test_an_unknown_step_names_those_there_are(stored):
    with pytest.raises(RunError, match="no checkpoint at step 7; there are: 0, 20"):
        load_for_decoding(load_run(stored), 7)


def cut_short(file):
    file.write_bytes(file.read_bytes()[:100])


def of_another_shape(file):
    from safetensors.torch import load_file, save_file

    save_file({name: value[:1].contiguous() for name, value in load_file(file).items()}, file)


@pytest.mark.parametrize(
    "breaking", [cut_short, of_another_shape, lambda file: file.unlink(), lambda file: file.write_bytes(b"")]
)
def test_weights_that_cannot_be_read_are_one_sentence(stored, breaking):
    breaking(stored / "checkpoints" / "20" / WEIGHTS)
    with pytest.raises(RunError) as caught:
        load_for_decoding(load_run(stored))
    said = str(caught.value)
    assert WEIGHTS in said and said.endswith("; other steps are 0") and "\n" not in said
    assert load_for_decoding(load_run(stored), 0).step == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(stored):
    with pytest.raises(ValueError, match="torch sees no GPU here"):
        load_for_decoding(load_run(stored), device="cuda")


# --- trees ----------------------------------------------------------------------------------------------------------


def counted(model, **options):
    """As `choose_tree`, for a fake, which has its knowledge in `forward` and so decodes without a cache."""
    return choose_tree(model, [[1, 2], [3, 4, 5]], cached=False, **options)


def test_the_tree_of_a_model_that_is_always_right_is_a_chain_as_far_as_it_goes():
    assert counted(counting(), nodes=3).paths == chain(3).paths
    assert counted(counting(), nodes=4).paths == chain(4).paths


def test_it_is_the_best_tree_for_what_greedy_decoding_makes_of_the_prompts():
    model = small_model(n_layers=5, n_future=3)
    rows = [
        [*prompt, *row.tokens]
        for prompt, row in zip(PROMPTS, generate(model, PROMPTS, DecodingConfig(max_new_tokens=9)).decoded, strict=True)
    ]
    hits = candidate_hits(model, rows, [3, 2, 1], 5)
    assert choose_tree(model, PROMPTS, 6, new_tokens=9) == best_tree(hits, 5)


@pytest.mark.parametrize("nodes", [2, 5, 16])
def test_a_tree_has_the_nodes_it_is_asked_for_and_leaves_the_text_as_it_is(nodes):
    model = small_model(n_layers=5, n_future=3)
    tree = choose_tree(model, PROMPTS, nodes)
    assert tree.n_nodes == nodes
    plain, drafted = (generate(model, PROMPTS, DecodingConfig(max_new_tokens=8, tree=one)) for one in (None, tree))
    assert [row.tokens for row in plain.decoded] == [row.tokens for row in drafted.decoded]


def test_a_tree_is_chosen_for_prompts_that_fill_the_context():
    assert choose_tree(small_model(n_layers=4, n_future=2), [[1] * 12], 4).n_nodes == 4


def test_trees_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="a tree of 1 nodes has no drafts; write at least 2"):
        choose_tree(small_model(n_future=2), PROMPTS, 1)
    with pytest.raises(ValueError, match="the model predicts the next token only"):
        choose_tree(small_model(), PROMPTS, 4)


# --- speed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 1, 2])
@pytest.mark.parametrize(
    "drafts", [{"speculative": 2}, {"speculative": 3}, {"tree": Tree(((0,), (1,), (0, 0)))}], ids=str
)
def test_both_ways_are_measured_on_the_same_prompts(batch, drafts):
    model, config = small_model(n_layers=5, n_future=3), DecodingConfig(max_new_tokens=9, **drafts)
    speed = measure_decoding(model, PROMPTS, config, repeats=2, batch=batch)
    assert speed.identical is True and math.isnan(speed.gap)
    assert (speed.prompts, speed.batch, speed.new_tokens, speed.dtype) == (3, batch or 3, 27, "float32")
    assert (speed.speculative, speed.nodes) == (config.drafts.speculative, config.drafts.n_nodes)
    assert speed.plain_seconds.shape == speed.speculative_seconds.shape == (2,) and (speed.plain_seconds > 0).all()
    assert speed.plain_forwards == {None: 8, 1: 24, 2: 16}[batch]
    each = [generate(model, [prompt], config) for prompt in PROMPTS]
    forwards = [one.decoded[0].forwards for one in each]
    assert (
        speed.speculative_forwards == {None: max(forwards), 1: sum(forwards), 2: max(forwards[:2]) + forwards[2]}[batch]
    )
    assert speed.tokens_per_forward == pytest.approx(sum(one.decoded[0].emitted for one in each) / sum(forwards))
    assert speed.acceptance.tried[0] == sum(
        len([step for step in one.decoded[0].steps[1:] if step.drafts]) for one in each
    )
    assert speed.marginal.offsets == (2, 3) and 0 <= speed.marginal.rate[0] <= 1


def test_without_a_cache_rows_are_decoded_one_after_another():
    speed = measure_decoding(small_model(n_layers=5, n_future=3), PROMPTS, CHAIN, repeats=1, cached=False)
    assert (speed.plain_forwards, speed.cached, speed.identical) == (24, False, True)


@pytest.mark.parametrize("rule", ["exact", "typical"])
def test_sampled_text_is_measured_on_as_many_tokens(rule):
    model = small_model(n_layers=5, n_future=3)
    config = DecodingConfig(
        max_new_tokens=9, speculative=3, sampling=Sampling(temperature=1.0), stop=tuple(range(11)), rule=rule
    )
    speed = measure_decoding(model, PROMPTS, config, repeats=2, seed=3)
    assert speed.identical is None and speed.new_tokens == 27 and speed.plain_forwards == 8
    again = measure_decoding(model, PROMPTS, config, repeats=1, seed=3)
    assert again.speculative_forwards == speed.speculative_forwards


def test_stop_tokens_end_both_ways_of_greedy_decoding():
    model = small_model(n_layers=5, n_future=3)
    (row,) = generate(model, [[1, 2]], DecodingConfig(max_new_tokens=9)).decoded
    speed = measure_decoding(model, [[1, 2]], dataclasses.replace(CHAIN, stop=row.tokens[4:5]), 1)
    assert speed.new_tokens == row.tokens.index(row.tokens[4]) + 1 and speed.identical


def test_contexts_that_slide_are_measured_and_their_first_part_is_marginal():
    model = small_model(n_layers=5, n_future=3)
    config = dataclasses.replace(CHAIN, max_new_tokens=30, overflow="slide")
    speed = measure_decoding(model, [[1, 2], [3] * 20], config, 1)
    assert speed.identical and speed.new_tokens == 60 and speed.marginal.count > 0


def test_one_new_token_needs_no_forward_behind_the_prefill():
    speed = measure_decoding(
        small_model(n_layers=5, n_future=3), [[1, 2]], dataclasses.replace(CHAIN, max_new_tokens=1), 1
    )
    assert speed.plain_forwards == speed.speculative_forwards == 0
    assert math.isnan(speed.tokens_per_forward) and math.isnan(speed.speedup_by_parts)
    assert json.dumps(speed.summary(), allow_nan=False)


def test_where_texts_part_the_gap_is_that_of_plain_decoding(monkeypatch):
    from playground.running import decoding

    model = small_model(n_layers=5, n_future=3)

    def parting(model, prompts, config, **options):
        found = generate(model, prompts, config, **options)
        if config.drafts.n_nodes == 1 or config.max_new_tokens < 9:
            return found
        (row,) = found.decoded
        tokens = (*row.tokens[:4], (row.tokens[4] + 1) % 11, *row.tokens[5:])
        return dataclasses.replace(found, decoded=(dataclasses.replace(row, tokens=tokens),))

    monkeypatch.setattr(decoding, "generate", parting)
    speed = measure_decoding(model, [[1, 2]], CHAIN, 1, cached=False)
    (row,) = generate(model, [[1, 2]], CHAIN).decoded
    first, second = model(torch.tensor([[*row.prompt, *row.tokens[:4]]]))[0, -1].topk(2).values.tolist()
    assert speed.identical is False and speed.gap == pytest.approx(first - second, rel=1e-4)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (DecodingConfig(), {}, "would be compared with itself; write speculative=K"),
        (CHAIN, {"repeats": 0}, "write at least 1"),
        (CHAIN, {"batch": 0}, "write at least 1"),
        (dataclasses.replace(CHAIN, speculative=4), {}, "speculative of at most 3"),
        (dataclasses.replace(CHAIN, max_new_tokens=99), {}, "leaves room for"),
    ],
)
def test_what_cannot_be_measured_is_refused(config, options, message):
    with pytest.raises(ValueError, match=message):
        measure_decoding(small_model(n_layers=5, n_future=3), PROMPTS, config, **options)


def test_measuring_leaves_no_trace():
    model = small_model(n_layers=5, n_future=3)
    with leaves_no_trace(model):
        measure_decoding(model, PROMPTS, CHAIN, 1, cached=False)
        choose_tree(model, PROMPTS, 4, cached=False)


# --- what is computed from the seconds ------------------------------------------------------------------------------


def speed_of(**changes) -> DecodingSpeed:
    values = {
        "speculative": 3, "nodes": 3, "prompts": 1, "batch": 1, "new_tokens": 61, "device": "cpu", "dtype": "float32",
        "cached": True, "identical": True, "gap": math.nan, "plain_seconds": np.array([6.0, 5.0, 12.0]),
        "speculative_seconds": np.array([4.0, 2.0, 3.0]), "plain_forwards": 60, "speculative_forwards": 20,
        "tokens_per_forward": 3.0,
        "acceptance": Acceptance(offsets=(2, 3), accepted=np.array([18, 0]), tried=np.array([20, 0])),
        "marginal": MarginalAcceptance(offsets=(2, 3, 4), rate=np.array([0.9, 0.5, 0.1]), conditional=np.ones(3), count=9),
    }  # fmt: skip
    return DecodingSpeed(**(values | changes))


def test_speedup_is_of_medians_and_its_spread_of_turns():
    speed = speed_of()
    assert speed.speedup == 2.0 and speed.spread == (1.5, 4.0)
    assert speed.plain_seconds_per_forward == pytest.approx(0.1)
    assert speed.speculative_seconds_per_forward == pytest.approx(0.15)
    assert speed.speedup_by_parts == pytest.approx(2.0)
    (row,) = speed.rows()
    assert (row["conditional"], row["marginal"], row["spread"], row["same"]) == ("90 -", "90 50", "1.50-4.00", "yes")
    assert (row["ms"], row["plain ms"]) == pytest.approx((150, 100))
    assert speed_of(identical=False).rows()[0]["same"] == "NO" and speed_of(identical=None).rows()[0]["same"] is None


def test_speed_goes_to_json_and_back():
    speed = speed_of()
    restored = DecodingSpeed.from_dict(json.loads(json.dumps(speed.to_dict(), allow_nan=False)))
    assert restored.to_dict() == speed.to_dict() and restored.speedup == speed.speedup
    computed = speed.summary()
    assert (computed["speedup"], computed["spread"], computed["conditional_acceptance"]) == (
        2.0,
        [1.5, 4.0],
        [0.9, None],
    )


def test_clamps_hold_while_decoding_without_a_cache():
    from playground.config import ClampConfig

    model = small_model(n_layers=4, n_future=2)
    free = [row.tokens for row in generate(model, PROMPTS, DecodingConfig(max_new_tokens=8), cached=False).decoded]
    apply_clamp(model, ClampConfig(force_previous_token=("all",)))
    speed = measure_decoding(model, PROMPTS, DecodingConfig(max_new_tokens=8, speculative=2), 1, cached=False)
    assert speed.identical
    assert [
        row.tokens for row in generate(model, PROMPTS, DecodingConfig(max_new_tokens=8), cached=False).decoded
    ] != free
    with pytest.raises(ValueError, match="hooks"):
        measure_decoding(model, PROMPTS, DecodingConfig(max_new_tokens=8, speculative=2), 1)
