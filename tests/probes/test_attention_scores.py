"""The two detectors on hand-built heads, against slow loops, and the promise to leave no trace."""

import numpy as np
import pytest
import torch

from playground.model.patterns import match_mask, previous_token_mask
from playground.probes.attention_scores import (
    attention_patterns,
    attention_scores,
    masked_attention,
    probe_tokens,
)
from playground.results import AttentionScores
from tests.cases import random_tokens, small_model


def _tokens() -> torch.Tensor:
    return probe_tokens(64, 64, torch.Generator().manual_seed(0))


def _ideal_heads(tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Patterns `[batch, pos, pos]` of hand-built heads; where a head has no target it attends the first token."""
    rows, length = tokens.shape
    heads = {name: torch.zeros(rows, length, length) for name in ("previous", "induction", "duplicate", "positional")}
    for row in range(rows):
        for q in range(length):
            earlier = [j for j in range(q) if tokens[row, j] == tokens[row, q]]
            targets = {
                "previous": [q - 1] if q else [],
                "induction": [j + 1 for j in earlier],
                "duplicate": earlier,
                "positional": [q - 20] if q >= 20 else [],
            }
            for name, keys in targets.items():
                for key in keys or [0]:
                    heads[name][row, q, key] = 1 / len(keys or [0])
    return heads | {"uniform": torch.ones(rows, length, length).tril() / torch.arange(1, length + 1)[:, None]}


@pytest.mark.parametrize(("head", "previous", "matching"), [
    ("previous", 1.0, 0.0), ("induction", 0.0, 1.0), ("duplicate", 0.0, 0.0), ("positional", 0.0, 0.1), ("uniform", 0.07, 0.1),
])  # fmt: skip
def test_ideal_heads_read_one_on_their_own_score_and_about_zero_on_the_other(head, previous, matching):
    tokens = _tokens()
    pattern = _ideal_heads(tokens)[head][:, None]
    scores = [masked_attention(pattern, mask).item() for mask in (previous_token_mask(tokens), match_mask(tokens, 1))]
    for score, ideal in zip(scores, (previous, matching), strict=True):
        assert score == pytest.approx(1.0, abs=1e-5) if ideal == 1.0 else score <= ideal + 0.03


def test_the_positional_head_would_pass_on_repeats_of_one_distance():
    """Why the distance varies: the same head that is rejected above looks perfect on a fixed distance."""
    tokens = torch.randperm(64)[:19].repeat(4)[None, :57]
    pattern = torch.zeros(1, 1, 57, 57)
    for q in range(57):
        pattern[0, 0, q, max(q - 18, 0)] = 1
    assert masked_attention(pattern, match_mask(tokens, 1)).item() > 0.45  # one of the copies, wherever it points


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_match_mask_equals_a_loop(ahead):
    tokens = random_tokens(rows=5, d_vocab=4)
    mask = match_mask(tokens, ahead)
    for row in range(5):
        for q in range(12):
            expected = {j + ahead for j in range(q) if tokens[row, j] == tokens[row, q] and j + ahead <= q}
            assert set(mask[row, q].nonzero().flatten().tolist()) == expected


def test_probe_rows_repeat_at_several_distances_without_repeats_inside_a_block():
    tokens = _tokens()
    distances = []
    for row in tokens.tolist():
        distance = row.index(row[0], 1)
        assert len(set(row[:distance])) == distance
        assert row[distance:] == row[: len(row) - distance]
        distances.append(distance)
    assert len(set(distances)) > 5


@pytest.mark.parametrize(("d_vocab", "n_ctx"), [(3, 8), (11, 12), (15, 64), (500, 256), (4, 4)])
def test_probe_rows_fit_any_task(d_vocab, n_ctx):
    tokens = probe_tokens(d_vocab, n_ctx, torch.Generator().manual_seed(0))
    assert tokens.shape[1] == min(n_ctx, 64)
    assert 0 <= tokens.min() and tokens.max() < d_vocab
    some = min(d_vocab, max(2, tokens.shape[1] // 8))
    assert all(len(row[:some].unique()) == some for row in tokens), "a token came again before all others had"


def test_scores_of_a_model_name_trunk_and_future_heads_and_leave_no_trace():
    model, tokens = small_model(n_future=2).train(), random_tokens(rows=8, d_vocab=5)
    before = model(tokens)
    scores = attention_scores(model, tokens, torch.Generator().manual_seed(0))
    assert scores.layers == ("blocks.0", "future_heads.0", "future_heads.1")
    assert scores.previous_token.shape == scores.null_prefix_matching.shape == (3, 2)
    assert model.training and torch.equal(model(tokens), before)
    assert not any(point.fwd_hooks for point in model.hook_points())
    patterns = attention_patterns(model, tokens)
    slow = np.mean([patterns["blocks.0"][row, 1, q, q - 1].item() for row in range(8) for q in range(1, 12)])
    assert scores.previous_token[0, 1] == pytest.approx(slow, rel=1e-4)


def test_an_untrained_model_lies_inside_its_null_band_and_repeats_exactly():
    model, tokens = small_model(n_ctx=64, d_vocab=64), _tokens()
    first, second = (attention_scores(model, tokens, torch.Generator().manual_seed(5)) for _ in range(2))
    assert (first.prefix_matching <= first.null_prefix_matching * 1.3).all()
    assert (first.null_prefix_matching < 0.2).all()
    assert np.array_equal(first.null_prefix_matching, second.null_prefix_matching)
    restored = AttentionScores.from_dict(first.to_dict())
    assert np.allclose(restored.prefix_matching, first.prefix_matching, atol=1e-5)
