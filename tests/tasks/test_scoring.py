"""Teacher-forced scoring against loops over single positions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.base import Batch, seeded_generator
from tasks.scoring import teacher_forced
from tasks.targets import IGNORED, future_targets, score_targets

N_FUTURE, D_VOCAB = 3, 5


def random_batches(n: int) -> list[Batch]:
    generator = seeded_generator(3)
    drawn = []
    for _ in range(n):
        tokens = torch.randint(D_VOCAB, (2, 9), generator=generator)
        score_mask = torch.rand(2, 9, generator=generator) < 0.7
        documents = torch.randint(-1, 2, (2, 9), generator=generator).sort(dim=1).values
        drawn.append(
            Batch(tokens=tokens, loss_mask=score_mask | (tokens > 2), score_mask=score_mask, documents=documents)
        )
    return drawn


def fake_predict(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
    """Logits that depend on the token, the position and the offset."""
    position = torch.arange(tokens.shape[1]).view(1, -1, 1, 1)
    offset = torch.tensor(offsets).view(1, 1, -1, 1)
    return torch.sin(1.0 + 2.0 * tokens[:, :, None, None] + position * offset + 3.0 * torch.arange(D_VOCAB))


def test_against_a_slow_reference() -> None:
    batches = random_batches(4)
    result = teacher_forced(fake_predict, batches, N_FUTURE)
    for offset in range(1, N_FUTURE + 1):
        losses: list[float] = []
        score_losses: list[float] = []
        correct: list[bool] = []
        for batch in batches:
            logits = fake_predict(batch.tokens, (offset,))[:, :, 0]
            targets, scored = future_targets(batch, offset), score_targets(batch, offset)
            for row in range(2):
                for position in range(9):
                    log_probs = logits[row, position].log_softmax(dim=0)
                    if (target := int(targets[row, position])) != IGNORED:
                        losses.append(-float(log_probs[target]))
                    if (target := int(scored[row, position])) != IGNORED:
                        score_losses.append(-float(log_probs[target]))
                        correct.append(int(log_probs.argmax()) == target)
        assert result.count[offset - 1] == len(correct) > 0
        assert math.isclose(result.loss[offset - 1], sum(losses) / len(losses), rel_tol=1e-5)
        assert math.isclose(result.score_loss[offset - 1], sum(score_losses) / len(score_losses), rel_tol=1e-5)
        assert math.isclose(result.accuracy[offset - 1], sum(correct) / len(correct), rel_tol=1e-9)


def test_one_forward_per_batch_with_all_offsets() -> None:
    calls: list[tuple[int, ...]] = []

    def counting(tokens: Tensor, offsets: Sequence[int]) -> Tensor:
        calls.append(tuple(offsets))
        return fake_predict(tokens, offsets)

    teacher_forced(counting, random_batches(3), 2)
    assert calls == [(1, 2)] * 3


def test_nothing_to_predict_is_not_a_number() -> None:
    tokens = torch.zeros(1, 2, dtype=torch.long)
    mask = torch.ones(1, 2, dtype=torch.bool)
    batch = Batch(tokens=tokens, loss_mask=mask, score_mask=mask, documents=tokens)
    result = teacher_forced(fake_predict, [batch], 3)
    assert result.count == (1, 0, 0)
    assert math.isfinite(result.loss[0])
    assert math.isnan(result.loss[1])
    assert math.isnan(result.accuracy[2])


def test_low_precision_logits_are_scored_in_full_precision() -> None:
    batches = random_batches(1)
    result = teacher_forced(lambda tokens, offsets: fake_predict(tokens, offsets).bfloat16(), batches, 1)
    rounded = teacher_forced(lambda tokens, offsets: fake_predict(tokens, offsets).bfloat16().float(), batches, 1)
    assert result == rounded
