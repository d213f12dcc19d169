"""Taking parts out: exact equalities on any model, and the known circuit of the hand-built one as ground truth."""

import numpy as np
import pytest
import torch

from playground.probes.ablation import (
    Ablator,
    ablate,
    all_components,
    frozen_patterns,
    induction_after_ablation,
)
from playground.probes.attention_scores import attention_patterns, attention_scores, scored_queries
from playground.probes.quiet import quietly
from playground.results import AblationEffects, Head, InductionAfterAblation
from tasks.base import seeded_generator
from tasks.registry import make_task
from tasks.scoring import teacher_forced
from tests.cases import MODEL_OPTIONS, make_batch, random_tokens, small_model
from tests.handmade import back_head, induction_head, induction_model
from tests.probes.no_trace import leaves_no_trace

METHODS = ("mean", "zero", "resample")
CHANCE = 0.25
"""More than guessing gives, and than is left where a mean still holds the row's own value, once among all rows."""


def _repeats(rows: int = 32):
    return make_task("induction", d_vocab=32, n_ctx=64, min_distance=8, max_distance=24, test_rows=rows).test_batch(
        rows
    )


def _all_logits(model, tokens, hooks=()):
    with quietly(model, list(hooks)):
        return model(tokens, tuple(range(1, model.n_future + 1)))


# --- the known circuit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_future", [1, 2])
def test_only_the_heads_of_the_circuit_matter(n_future, method):
    model = induction_model(n_future)
    heads = [Head.parse(name) for name in all_components(model) if not name.endswith(".attn")]
    found = ablate(model, _repeats(), [str(head) for head in heads], method=method)
    assert (found.clean_accuracy == 1).all()
    for head, accuracy in zip(heads, found.accuracy.mean(axis=1), strict=True):
        for k in range(1, n_future + 1):
            if head in (back_head(k), induction_head(k)):
                assert accuracy[k - 1] < CHANCE
            else:
                assert accuracy[k - 1] == 1
    changes = dict(zip(heads, found.accuracy_change[:, 0], strict=True))
    assert changes[induction_head()] < -0.75 and changes[Head("blocks.0", n_future)] == 0


@pytest.mark.parametrize("method", METHODS)
def test_what_a_previous_token_head_does_goes_through_patterns_alone(method):
    """Direct and total effect of the two heads: the one is read as a key, the other writes the prediction."""
    model, heads = induction_model(), [str(back_head()), str(induction_head())]
    free, frozen = (ablate(model, _repeats(), heads, method=method, freeze_patterns=freeze) for freeze in (False, True))
    assert (free.patterns, frozen.patterns) == ("free", "frozen")
    assert (free.accuracy.mean(axis=1) < CHANCE).all()
    assert (frozen.accuracy[0] == 1).all() and frozen.accuracy[1].mean() < CHANCE
    np.testing.assert_allclose(free.clean_loss, frozen.clean_loss, rtol=1e-5)


def test_a_set_is_taken_out_together_and_a_layer_is_all_of_its_heads():
    model = induction_model(2)
    idle = [f"blocks.0.{head}" for head in range(2, 5)]
    found = ablate(model, _repeats(), [" + ".join(idle), "blocks.0.0 + blocks.0.1", "blocks.0", "blocks.0.attn"])
    accuracy = found.accuracy.mean(axis=1)
    assert (accuracy[0] == 1).all() and (accuracy[1] < CHANCE).all()
    np.testing.assert_array_equal(found.loss[2], found.loss[3])
    np.testing.assert_allclose(
        found.loss[2], ablate(model, _repeats(), [" + ".join(f"blocks.0.{i}" for i in range(5))]).loss[0]
    )


@pytest.mark.parametrize(("method", "least"), [("zero", 0.1), ("resample", 0.1), ("mean", 0.3)])
@pytest.mark.parametrize("n_future", [1, 2])
def test_an_induction_head_loses_its_score_with_the_head_that_it_reads(n_future, method, least):
    model, batch = induction_model(n_future), _repeats(16)
    found = induction_after_ablation(model, batch, queries=scored_queries(batch), method=method)
    assert found.ablated == tuple(Head("blocks.0", i) for i in range(3 + n_future))
    at = found.heads.index(induction_head())
    assert found.before[at] == pytest.approx(1, abs=1e-3) and found.null[at] < 0.1
    for ablated, after in zip(found.ablated, found.after, strict=True):
        others = [head for head in range(len(found.heads)) if head != at]
        assert after[at] < least if ablated == back_head() else after[at] == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(after[others], found.before[others], atol=0.05)
    scores = attention_scores(model, batch.tokens, seeded_generator(0), queries=scored_queries(batch))
    np.testing.assert_allclose(found.before, scores.prefix_matching.ravel(), rtol=1e-6)
    assert len(found.rows()) == len(found.ablated) * n_future * (3 + n_future)  # no head of the same layer can be moved


def test_induction_after_ablation_of_chosen_heads_and_of_a_trunk_without_any():
    model, batch = small_model(n_future=2), make_batch(random_tokens(rows=4, d_vocab=4))
    chosen = (Head("future_heads.1", 1), Head("blocks.0", 0))
    found = induction_after_ablation(model, batch, chosen, method="resample")
    assert found.ablated == chosen and found.after.shape == (2, 6)
    np.testing.assert_allclose(found.after[0], found.before, rtol=1e-5)  # nothing comes after a future head
    none = induction_after_ablation(small_model(n_layers=1, control="trunk"), batch)
    assert none.ablated == () and none.after.shape == (0, 2) and none.rows() == []
    assert InductionAfterAblation.from_dict(none.to_dict()).after.shape == (0, 2)


# --- exact equalities on any model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=lambda options: "-".join(options.values()))
def test_zero_equals_a_model_without_those_output_weights(options):
    tokens = random_tokens()
    parts = {"blocks.0.1": "attn", "future_heads.1.0": "attn", "blocks.0.attn": "attn", "blocks.0": "both"}
    if options["mlp"] != "none":
        parts["future_heads.0.mlp"] = "mlp"
    for name, kind in parts.items():
        model, cut = (small_model(n_future=2, **options) for _ in range(2))
        with torch.no_grad():
            block = cut.get_submodule(".".join(name.split(".")[:2]))
            head = name.rpartition(".")[2]
            if kind == "mlp" or (kind == "both" and options["mlp"] != "none"):
                block.mlp.out.weight.zero_()
            if kind != "mlp":
                which = slice(None) if name in ("blocks.0", "blocks.0.attn") else int(head)
                block.attn.out.weight.view(16, 2, 8)[:, which] = 0
        hooks = Ablator(model, tokens, method="zero").hooks(name)
        torch.testing.assert_close(_all_logits(model, tokens, hooks), _all_logits(cut, tokens))


def test_the_mean_is_over_the_reference_position_by_position():
    model, reference, tokens = small_model(), random_tokens(rows=5), random_tokens(rows=2, length=9, seed=1)
    _, cache = model.run_with_cache(reference)
    mean = cache["blocks.1.attn.hook_z"].mean(dim=0)[:9]
    hooks = Ablator(model, reference).hooks(["blocks.1.0"])
    seen = []
    _all_logits(model, tokens, [*hooks, ("blocks.1.attn.hook_z", lambda z, hook: seen.append(z))])
    plain = []
    _all_logits(model, tokens, [("blocks.1.attn.hook_z", lambda z, hook: plain.append(z))])
    torch.testing.assert_close(seen[0][:, :, 0], mean[:, 0].expand(2, 9, -1))
    assert torch.equal(seen[0][:, :, 1], plain[0][:, :, 1])


def test_resampling_takes_another_row_of_the_reference_and_the_same_for_a_whole_set():
    model, tokens = small_model(n_layers=3), random_tokens(rows=6)
    points = ("blocks.0.attn.hook_z", "blocks.1.hook_mlp_out")
    ablator = Ablator(model, tokens, method="resample")
    taken = set()
    for first in (0, 2, 4) * 8:
        seen = {}
        hooks = ablator.hooks("blocks.0.attn + blocks.1.mlp", first_row=first)
        listening = [(point, lambda value, hook, seen=seen: seen.update({hook.name: value})) for point in points]
        _all_logits(model, tokens[first : first + 2], [*hooks, *listening])
        for row in range(2):
            sources = [
                [other for other in range(6) if torch.equal(seen[point][row], ablator.values[point][other])]
                for point in points
            ]
            assert sources[0] == sources[1] and len(sources[0]) == 1
            assert sources[0][0] != first + row
            taken.add((first + row, sources[0][0]))
    assert len(taken) > 15  # of the 30 pairs that there are


def test_ablate_never_gives_a_row_its_own_activation(monkeypatch):
    model, batch = small_model(), make_batch(random_tokens(rows=6))
    own = Ablator(model, batch.tokens, method="resample").values["blocks.1.attn.hook_z"]
    rows: list[list[bool]] = []

    def look(model, part, hooks):
        if hooks:
            seen = []
            _all_logits(model, part.tokens, [*hooks, ("blocks.1.attn.hook_z", lambda z, hook: seen.append(z))])
            rows.extend([torch.equal(value, other) for other in own] for value in seen[0])
        return np.zeros((2, 1))

    monkeypatch.setattr("playground.probes.ablation._figures", look)
    for seed in range(6):
        rows.clear()
        ablate(model, batch, ["blocks.1.attn"], method="resample", batch_size=2, generator=seeded_generator(seed))
        assert [sum(equal) for equal in rows] == [1] * 6 and not any(equal[row] for row, equal in enumerate(rows))


def test_figures_come_batch_by_batch_as_the_tasks_score():
    model = small_model(n_future=2)
    tokens = random_tokens(rows=10)
    batch = make_batch(tokens, score_mask=tokens > 4)
    found = ablate(model, batch, ["blocks.0.1", "future_heads.1"], batch_size=4)
    assert found.loss.shape == found.accuracy.shape == (2, 3, 2) and found.clean_loss.shape == (3, 2)
    hooks = Ablator(model, tokens).hooks("blocks.0.1")
    for index, part in enumerate(batch.split(4)):
        clean = teacher_forced(model, [part], 2)
        with quietly(model, hooks):
            without = teacher_forced(model, [part], 2)
        np.testing.assert_allclose(found.clean_loss[index], clean.loss, rtol=1e-6)
        np.testing.assert_allclose(found.loss[0, index], without.loss, rtol=1e-6)
        np.testing.assert_allclose(found.accuracy[0, index], without.accuracy, rtol=1e-6)
    np.testing.assert_allclose(found.loss_change, (found.loss - found.clean_loss).mean(axis=1))
    np.testing.assert_allclose(found.loss_spread, (found.loss - found.clean_loss).std(axis=1))
    assert np.abs(found.loss_change[1, 0]) < 1e-6 < np.abs(found.loss_change[1, 1])  # offset 1 does not use its sister
    assert len(found.rows()) == 4


def test_batches_without_a_scored_token_are_left_out_of_the_mean():
    tokens = random_tokens(rows=3)
    score_mask = torch.ones_like(tokens, dtype=torch.bool)
    score_mask[1] = False
    found = ablate(small_model(), make_batch(tokens, score_mask=score_mask), ["blocks.0.0"], batch_size=1)
    assert np.isnan(found.accuracy[0, :, 0]).tolist() == [False, True, False]
    both = (found.accuracy - found.clean_accuracy)[0, [0, 2], 0]
    assert found.accuracy_change[0, 0] == pytest.approx(both.mean())
    assert found.accuracy_spread[0, 0] == pytest.approx(both.std())
    assert np.isfinite(found.rows()[0]["accuracy"])


def test_the_same_generator_gives_the_same_resamples_and_another_one_others():
    model, batch = small_model(), make_batch(random_tokens(rows=8))

    def loss(seed: int) -> np.ndarray:
        return ablate(model, batch, ["blocks.0.attn"], method="resample", generator=seeded_generator(seed)).loss

    assert np.array_equal(loss(1), loss(1)) and not np.array_equal(loss(1), loss(3))


def test_frozen_patterns_are_those_of_the_whole_model():
    model, tokens = small_model(n_future=2), random_tokens()
    before = attention_patterns(model, tokens)
    hooks = Ablator(model, tokens, method="zero").hooks("blocks.0")
    with quietly(model, hooks):
        free = attention_patterns(model, tokens)
    frozen = frozen_patterns(model, tokens)
    with quietly(model, hooks + frozen):
        held = attention_patterns(model, tokens)
    for layer, pattern in before.items():
        assert torch.equal(held[layer], pattern)
    assert not torch.allclose(free["future_heads.0"], before["future_heads.0"])
    torch.testing.assert_close(_all_logits(model, tokens, frozen), _all_logits(model, tokens))


# --- names and errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "names"), [
    ({"n_future": 2}, ["blocks.0.0", "blocks.0.1", "blocks.0.attn", "blocks.0.mlp",
                       "future_heads.0.0", "future_heads.0.1", "future_heads.0.attn", "future_heads.0.mlp",
                       "future_heads.1.0", "future_heads.1.1", "future_heads.1.attn", "future_heads.1.mlp"]),
    ({"n_layers": 1, "control": "trunk", "mlp": "none"}, ["future_heads.0.0", "future_heads.0.1", "future_heads.0.attn"]),
])  # fmt: skip
def test_all_components(options, names):
    model = small_model(**options)
    assert all_components(model) == names
    found = ablate(model, make_batch(random_tokens()), names)
    assert found.components == tuple(names) and np.isfinite(found.loss).all()


@pytest.mark.parametrize(
    ("name", "mlp", "message"),
    [
        (
            "blocks.9",
            "gelu",
            "no component 'blocks.9'; it has the layers blocks.0, blocks.1, future_heads.0 with 2 heads each",
        ),
        ("blocks.0.2", "gelu", "no component 'blocks.0.2'"),
        ("blocks.0.²", "gelu", "no component 'blocks.0.²'"),
        ("blocks.0.-1", "gelu", "no component"),
        ("", "gelu", "no component ''"),
        ("blocks.0.0 + blocks.9.0", "gelu", "no component 'blocks.9.0'.*join a set by ' \\+ '"),
        ("blocks.0.0+blocks.1.0", "gelu", "no component"),
        ("blocks.0.mlp", "gelu", None),
        ("blocks.0.mlp", "none", "no component 'blocks.0.mlp'.*blocks.0.attn; it has no MLPs"),
        ("blocks.0.out", "none", "no component"),
    ],
)
def test_a_name_that_the_model_does_not_have_is_a_sentence(name, mlp, message):
    model, batch = small_model(mlp=mlp), make_batch(random_tokens())
    if message is None:
        assert len(Ablator(model, batch.tokens).hooks(name)) == 1
        return
    with pytest.raises(ValueError, match=message):
        ablate(model, batch, ["blocks.0.0", name])


def test_the_message_names_layers_that_are_there():
    with pytest.raises(ValueError, match=r"write future_heads.0 \(a layer\), future_heads.0.0 \(a head\)"):
        Ablator(small_model(n_layers=1, control="trunk"), random_tokens()).hooks("blocks.0")


def test_other_refusals():
    model = small_model()
    with pytest.raises(ValueError, match="there is one row; give at least 2"):
        Ablator(model, random_tokens(rows=1), method="resample")
    hooks = Ablator(model, random_tokens(length=8)).hooks("blocks.0.0")
    with pytest.raises(ValueError, match="the rows have 12 tokens and the reference rows 8; give longer ones"):
        _all_logits(model, random_tokens(), hooks)


def test_nothing_taken_out_is_a_result_too():
    found = ablate(small_model(), make_batch(random_tokens()), [])
    assert found.loss.shape == (0, 1, 1) and found.rows() == []
    again = AblationEffects.from_dict(found.to_dict())
    assert again.loss.shape == (0, 1, 1) and again.loss_change.shape == (0, 1)


@pytest.mark.parametrize("options", MODEL_OPTIONS, ids=lambda options: "-".join(options.values()))
def test_no_trace_is_left(options):
    model = small_model(n_future=2, **options).train()
    batch = make_batch(random_tokens(rows=3))
    with leaves_no_trace(model):
        for method in METHODS:
            ablate(model, batch, ["blocks.0.1 + future_heads.0.attn"], method=method, freeze_patterns=method == "mean")
        induction_after_ablation(model, batch)
