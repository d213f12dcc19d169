"""Null bands of untrained models on every preset, beside a plain loop over the tokens that are no padding."""

import dataclasses

import numpy as np
import pytest
import torch

from playground.model.transformer import MTPTransformer
from playground.probes import attention_scores as probe
from playground.probes.attention_scores import attention_patterns, attention_scores, scored_queries
from playground.probes.rows import probe_batch
from playground.running.presets import PRESETS, make_config
from tasks.base import Batch, seeded_generator
from tasks.registry import make_task

DRAWS = {"polynomial-cpu": 1500, "polynomial-gpu": 400}
"""More than the probe's 100 where rows are so short that a hundred leave the percentile uncertain by more than is allowed here."""


def slow_band(patterns: np.ndarray, batch: Batch, ahead: int, draws: int) -> np.ndarray:
    """The 99th percentile over draws of k-ahead induction with the real tokens of each row shuffled; `patterns` `[b, h, q, k]`."""
    random = np.random.default_rng(7)
    queries, real, tokens = scored_queries(batch).numpy(), batch.real.numpy(), batch.tokens.numpy()
    drawn = []
    for _ in range(draws):
        order = random.random(tokens.shape[1]).argsort()
        total, count = np.zeros(patterns.shape[1]), 0
        for row in range(len(tokens)):
            places = np.flatnonzero(real[row])
            shuffled = dict(zip(places.tolist(), tokens[row, [p for p in order if real[row, p]]].tolist(), strict=True))
            for query in np.flatnonzero(queries[row]).tolist():
                keys = [
                    j + ahead
                    for j in places.tolist()
                    if j < query and shuffled[j] == shuffled[query] and j + ahead <= query
                ]
                if keys:
                    total, count = total + patterns[row, :, query, keys].sum(axis=0), count + 1
        drawn.append(total / count if count else np.full(patterns.shape[1], np.nan))
    return np.nanquantile(drawn, 0.99, axis=0)


def untrained(preset: str) -> tuple[MTPTransformer, Batch]:
    config = make_config(preset, n_future=1)
    task = make_task(config.task)
    model = MTPTransformer(
        dataclasses.replace(
            config.model, n_layers=min(2, config.model.n_layers), d_vocab=task.d_vocab, n_ctx=task.n_ctx
        ),
        seeded_generator(0),
    )
    return model, probe_batch(task, 16 if task.n_ctx < 100 else 4)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_band_of_an_untrained_model_is_that_of_a_loop_over_real_tokens(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model, batch), draws = untrained(preset), DRAWS.get(preset, probe.NULL_DRAWS)
    monkeypatch.setattr(probe, "NULL_DRAWS", draws)
    scores = attention_scores(
        model, batch.tokens, seeded_generator(1), queries=scored_queries(batch), real=batch.real, rows_from="task"
    )
    patterns = torch.cat(list(attention_patterns(model, batch.tokens).values()), dim=1).cpu().numpy()
    for ahead in (0, 1):
        band = scores.null_duplicate_token if ahead == 0 else scores.null_ahead[0]
        np.testing.assert_allclose(band.ravel(), slow_band(patterns, batch, ahead, draws), atol=0.02)


def test_padding_changes_no_score_and_no_band() -> None:
    """The same rows with more padding at their end, of one token or of many."""
    model, batch = untrained("polynomial-cpu")
    length = int(batch.real.sum(dim=1).max())
    short = batch.tokens[:, :length]
    queries, real = scored_queries(batch)[:, :length], batch.real[:, :length]
    tokens = short.where(real, torch.randint(model.config.d_vocab or 0, short.shape, generator=seeded_generator(3)))
    plain, odd = (
        attention_scores(model, rows, seeded_generator(1), queries=queries, real=real) for rows in (short, tokens)
    )
    for name in ("back", "ahead", "duplicate_token", "null_back", "null_ahead", "null_duplicate_token"):
        np.testing.assert_allclose(getattr(plain, name), getattr(odd, name), atol=1e-6)
    assert plain.null_ahead[0].max() < 0.25, "with padding as tokens it was .78 to .87"
