"""The hand-built model does what its description says: perfect scores, and every token that is determined right."""

import numpy as np
import pytest
import torch

from playground.probes.attention_scores import attention_scores, probe_tokens
from tasks.induction import Induction, InductionConfig
from tasks.scoring import teacher_forced
from tests.handmade import back_head, induction_head, induction_model


@pytest.mark.parametrize(
    ("n_future", "normalization", "d_vocab"),
    [
        (1, "RMS", 32),
        (1, "RMS", 12),
        (1, "LN", 32),
        (2, "RMS", 32),
        (2, "LN", 24),
        (4, "RMS", 16),
    ],
)
def test_every_determined_token_is_right_at_every_offset(n_future, normalization, d_vocab):
    model = induction_model(n_future, d_vocab=d_vocab, normalization=normalization)
    config = InductionConfig(d_vocab=d_vocab, n_ctx=64, min_distance=5, max_distance=d_vocab, test_rows=64)
    result = teacher_forced(model, [Induction(config).test_batch(64)], n_future)
    assert min(result.accuracy) == 1.0 and max(result.score_loss) < 1e-3


@pytest.mark.parametrize("n_future", [1, 2])
def test_its_heads_attend_where_they_are_said_to(n_future):
    model = induction_model(n_future)
    tokens = probe_tokens(32, 64, torch.Generator().manual_seed(0))
    scores = attention_scores(model, tokens, torch.Generator().manual_seed(0))
    place = {head: divmod(i, model.config.n_heads) for i, head in enumerate(scores.heads)}
    assert scores.previous_token[place[back_head()]] == pytest.approx(1, abs=1e-4)
    known = [back_head(k) for k in range(1, n_future + 1)]
    for k in range(1, n_future + 1):
        assert scores.ahead[k - 1][place[induction_head(k)]] == pytest.approx(1, abs=1e-3)
        known.append(induction_head(k))
    for head, (layer, index) in place.items():
        others = [scores.previous_token[layer, index], *scores.ahead[:n_future, layer, index]]
        assert head in known or np.max(others) < 0.1
