"""Path patching on circuits that are known, against a slow loop, and the promise to leave no trace."""

from typing import Any

import numpy as np
import pytest
import torch

from playground.model.layers import Block
from playground.model.transformer import MTPTransformer
from playground.probes.pairs import Pairs
from playground.probes.path_patching import path_patching
from playground.results import Head, PathPatching
from tests.cases import MODEL_OPTIONS, small_model
from tests.handmade import BACK, SHARPNESS, TOKEN, back_head, induction_head, induction_model, set_head
from tests.probes.no_trace import leaves_no_trace
from tests.probes.patched_by_hand import Ends, every_margin_counts, put, run, small_pairs, task_pairs


def _only(result: PathPatching, kind: str, sender: Head, receiver: Head) -> None:
    """The effect of this path is 1, of all others 0."""
    for name in ("q", "k", "v"):
        expected = np.zeros((len(result.senders), len(result.receivers)))
        if name == kind:
            expected[result.senders.index(sender), result.receivers.index(receiver)] = 1
        np.testing.assert_allclose(getattr(result, name), expected, atol=0.03)
    np.testing.assert_allclose(result.to_logits, 0, atol=0.03)


@pytest.mark.parametrize(
    ("n_future", "offset", "normalization"), [(1, 1, "RMS"), (2, 1, "RMS"), (2, 2, "RMS"), (1, 1, "LN")]
)
def test_a_previous_token_head_tells_the_induction_head_its_key(n_future, offset, normalization):
    model = induction_model(n_future, normalization=normalization)
    result = path_patching(model, task_pairs(offset=offset, corrupt="match"), offset=offset)
    _only(result, "k", back_head(offset), induction_head(offset))


def test_and_nothing_of_the_answer():
    """The answer itself travels from the embedding into the value, past all trunk heads."""
    result = path_patching(induction_model(), task_pairs(corrupt="answer"))
    _only(result, "none", back_head(), induction_head())


@torch.no_grad()
def _told_by_a_copy(kind: str) -> MTPTransformer:
    """An induction model whose head `blocks.0.1` copies the current token, from where the induction head takes its q or v."""
    model = induction_model(2)
    trunk, future = (block.attn for block in (*model.blocks, *model.future_heads)[:2] if isinstance(block, Block))
    one = torch.eye(32)
    copied = BACK + 1  # the block that the head wrote to before
    for weight in (*trunk.qkv.weight.chunk(3), trunk.out.weight.T):
        weight[32:64].zero_()
    set_head(trunk, 1, q={TOKEN: SHARPNESS * one}, k={TOKEN: one}, v={TOKEN: one}, o={copied: one})
    future.qkv.weight.chunk(3)["qkv".index(kind)][:32].zero_()
    set_head(future, 0, **{kind: {copied: one * (SHARPNESS if kind == "q" else 1)}})
    return model


def _asked_for_another_token(pairs: Pairs) -> Pairs:
    """The query itself corrupted: the token two after the source, whose follower is now the wrong answer."""
    corrupted, wrong = pairs.clean.clone(), pairs.wrong.clone()
    for row, query in enumerate(pairs.query.tolist()):
        place = int(pairs.source[row]) + 2
        corrupted[row, query] = pairs.clean[row, place]
        wrong[row] = pairs.clean[row, place + 1]
    return Pairs(
        clean=pairs.clean,
        corrupted=corrupted,
        sources=pairs.sources,
        query=pairs.query,
        answer=pairs.answer,
        wrong=wrong,
        offset=pairs.offset,
    )


@pytest.mark.parametrize("kind", ["q", "v"])
def test_a_head_that_copies_the_current_token_tells_a_query_or_a_value(kind):
    pairs = _asked_for_another_token(task_pairs()) if kind == "q" else task_pairs(corrupt="answer")
    result = path_patching(_told_by_a_copy(kind), pairs)
    _only(result, kind, Head("blocks.0", 1), induction_head())


def test_the_induction_head_itself_speaks_straight_to_the_logits():
    result = path_patching(induction_model(), task_pairs(), senders=[induction_head(), Head("future_heads.0", 1)])
    assert result.receivers == () and result.q.shape == (2, 0)
    np.testing.assert_allclose(result.to_logits, [1, 0], atol=0.03)


def _second_run(ends: Ends, sender: Head) -> list[Any]:
    """Hooks that freeze every head of this path but the sender."""
    last = f"future_heads.{ends.pairs.offset - 1}"
    frozen = [
        put(name, value, ...)
        for name, value in ends.clean.items()
        if name.endswith("hook_z") and name.startswith(("blocks", last))
    ]
    name = f"{sender.layer}.attn.hook_z"
    return [*frozen, put(name, ends.corrupted[name], 0, slice(None), sender.index)]


def _slow(ends: Ends, sender: Head, kind: str, receiver: Head) -> float:
    """The effect in one row, by whole forwards with hooks."""
    _, activations = run(ends.model, ends.pairs, ends.row, ends.pairs.clean, _second_run(ends, sender))
    heard = f"{receiver.layer}.attn.hook_{kind}"
    return 1 - ends.recovery(ends.pairs.clean, [put(heard, activations[heard], 0, slice(None), receiver.index)])


@pytest.mark.parametrize("options", MODEL_OPTIONS)
def test_equals_a_slow_loop(options, monkeypatch):
    every_margin_counts(monkeypatch)
    monkeypatch.setattr("playground.probes.recovery.MOST_TOKENS", 40)
    model, pairs = small_model(n_layers=4, n_future=2, seed=5, **options), small_pairs(rows=2, offset=2)
    result = path_patching(model, pairs)
    assert [str(head) for head in result.senders] == ["blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1"]
    assert [str(head) for head in result.receivers] == [
        "blocks.1.0",
        "blocks.1.1",
        "future_heads.1.0",
        "future_heads.1.1",
    ]
    ends = [Ends(model, pairs, row) for row in range(2)]
    for i, sender in enumerate(result.senders):
        slow = np.mean([1 - end.recovery(pairs.clean, _second_run(end, sender)) for end in ends])
        assert result.to_logits[i] == pytest.approx(slow, abs=2e-3)
        for j, receiver in enumerate(result.receivers):
            for kind in ("q", "k", "v"):
                found = getattr(result, kind)[i, j]
                if sender.layer == receiver.layer:
                    assert np.isnan(found)
                else:
                    assert found == pytest.approx(
                        np.mean([_slow(end, sender, kind, receiver) for end in ends]), abs=2e-3
                    )


def test_a_choice_of_heads_is_a_part_of_the_whole_table(monkeypatch):
    every_margin_counts(monkeypatch)
    model, pairs = small_model(n_layers=4), small_pairs()
    whole = path_patching(model, pairs)
    senders, receivers = (whole.senders[4], whole.senders[1]), (whole.receivers[5], whole.receivers[0])
    part = path_patching(model, pairs, senders=senders, receivers=receivers)
    assert (part.senders, part.receivers) == (senders, receivers)
    np.testing.assert_allclose(part.to_logits, whole.to_logits[[4, 1]], atol=1e-4)
    for kind in ("q", "k", "v"):
        np.testing.assert_allclose(getattr(part, kind), getattr(whole, kind)[np.ix_([4, 1], [5, 0])], atol=1e-4)


def test_a_model_that_does_not_use_the_fact_has_no_effects_and_no_error(monkeypatch):
    monkeypatch.setattr("playground.probes.recovery.MARGIN", 1000.0)
    result = path_patching(small_model(), small_pairs())
    assert all(np.isnan(values).all() for values in (result.q, result.k, result.v, result.to_logits))
    assert len(result.rows()) == 4  # the paths to the logits


def test_a_model_without_a_trunk_has_no_senders():
    result = path_patching(small_model(n_layers=1, control="trunk"), small_pairs())
    assert result.senders == () and len(result.receivers) == 2 and result.q.shape == (0, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"senders": [Head("blocks.7", 0)]}, "there is no head blocks.7.0 .* write one of blocks.0.0"),
        ({"receivers": [Head("future_heads.1", 0)]}, "on the path to this offset's logits"),
        ({"offset": 2}, "the pairs are made for offset 1"),
    ],
)
def test_a_head_or_an_offset_that_is_not_there_is_an_error(options, says):
    with pytest.raises(ValueError, match=says):
        path_patching(induction_model(2), task_pairs(), **options)


def test_path_patching_leaves_no_trace(monkeypatch):
    every_margin_counts(monkeypatch)
    model = small_model(n_layers=4, n_future=2).train()
    with leaves_no_trace(model):
        path_patching(model, small_pairs())
