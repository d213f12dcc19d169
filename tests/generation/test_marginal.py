"""Acceptance at every position: against loops written out, a model that is always right, one that is never, and padding."""

import numpy as np
import pytest
import torch

from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from playground.generation.marginal import candidate_hits, marginal_acceptance
from playground.model.transformer import MTPTransformer
from tests.cases import FUTURE_HEADS, random_tokens, small_config, small_model
from tests.probes.no_trace import leaves_no_trace

KINDS = FUTURE_HEADS
ROWS = [[1, 2, 3, 4, 5, 6, 7, 8], [3, 1, 4, 1, 5], [2, 7], [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]]
LENGTHS = [3, 1, 1, 12]


class Counting(MTPTransformer):
    """Says at every position that tokens go on counting; from offset `wrong` on its favourite is too high by one."""

    wrong = 100

    def forward(self, tokens, offsets=None):
        offsets = offsets or (1,)
        said = [(tokens + k + int(k >= self.wrong)) % 11 for k in offsets]
        second = [(tokens + k + 1 - int(k >= self.wrong)) % 11 for k in offsets]
        one_hot = [2 * torch.nn.functional.one_hot(part, 11) for part in said]
        return torch.stack(
            [a + torch.nn.functional.one_hot(b, 11) for a, b in zip(one_hot, second, strict=True)], 2
        ).float()


def counting(wrong: int = 100, n_future: int = 4) -> Counting:
    model = Counting(small_config(n_layers=5, n_future=n_future))
    model.wrong = wrong
    return model


def by_hand(model, rows, lengths, candidates):
    """Position by position and row by row: favourites right, conditionally right, candidates right, and of how many."""
    n = model.n_future
    right, chances, tried, hits, count = (
        np.zeros(n - 1),
        np.zeros(n - 1),
        np.zeros(n - 1),
        np.zeros((n - 1, candidates)),
        np.zeros(n - 1),
    )
    for row, length in zip(rows, lengths, strict=True):
        logits = model(torch.tensor([row]), tuple(range(1, n + 1)))[0]
        for t in range(length - 1, len(row)):
            so_far = True
            for k in range(2, n + 1):
                if t + k >= len(row):
                    break
                ranked = logits[t, k - 1].argsort(descending=True)[:candidates].tolist()
                count[k - 2] += 1
                tried[k - 2] += so_far
                right[k - 2] += ranked[0] == row[t + k]
                so_far = so_far and ranked[0] == row[t + k]
                chances[k - 2] += so_far
                hits[k - 2] += [token == row[t + k] for token in ranked]
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / count, chances / tried, np.nan_to_num(hits / count[:, None]), count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_future", [2, 4])
def test_as_written_out_in_loops_whatever_the_future_heads(kind, n_future):
    model = small_model(n_layers=6, n_future=n_future, future_heads=kind)
    rows, lengths = [*ROWS, *random_tokens(rows=20).tolist()], [*LENGTHS, *range(1, 11), *range(1, 11)]
    with torch.no_grad():
        rate, conditional, hits, count = by_hand(model, rows, lengths, 3)
    found = marginal_acceptance(model, rows, lengths)
    assert (found.offsets, found.count) == (tuple(range(2, n_future + 1)), count[0])
    np.testing.assert_allclose(found.rate, rate)
    np.testing.assert_allclose(found.conditional, conditional)
    np.testing.assert_allclose(candidate_hits(model, rows, lengths, 3), hits)


def test_a_model_that_is_always_right_reads_one_and_the_first_wrong_offset_ends_the_chain():
    rows, lengths = [[row % 11 for row in range(start, start + 12)] for start in range(4)], [1, 2, 3, 4]
    always = marginal_acceptance(counting(), rows, lengths)
    assert always.rate.tolist() == always.conditional.tolist() == [1, 1, 1]
    assert always.count == sum(12 - 2 - length + 1 for length in lengths)
    from_3 = marginal_acceptance(counting(wrong=3), rows, lengths)
    assert from_3.rate.tolist() == [1, 0, 0]
    assert from_3.conditional[:2].tolist() == [1, 0] and np.isnan(from_3.conditional[2])  # never tried
    hits = candidate_hits(counting(wrong=3), rows, lengths, 3)
    assert hits.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_a_model_that_knows_nothing_reads_about_chance():
    model = small_model(n_layers=3, n_future=2)
    found = marginal_acceptance(model, random_tokens(rows=400).tolist(), [1] * 400)
    assert found.rate[0] == pytest.approx(1 / 11, abs=0.03)
    hits = candidate_hits(model, random_tokens(rows=400).tolist(), [1] * 400, 11)
    assert hits.sum(axis=1) == pytest.approx(1)


def test_rows_of_different_lengths_count_as_each_by_itself():
    model = small_model(n_layers=4, n_future=3)
    alone = [marginal_acceptance(model, [row], [length]) for row, length in zip(ROWS, LENGTHS, strict=True)]
    together = marginal_acceptance(model, ROWS, LENGTHS)
    right = sum(np.nan_to_num(one.rate[0]) * one.count for one in alone)
    assert together.count == sum(one.count for one in alone)
    assert together.rate[0] == pytest.approx(right / together.count)


@pytest.mark.parametrize("rows", [[[1, 2, 3]], [[1], [2]]], ids=["all prompt", "one token"])
def test_where_nothing_counts_it_is_undefined_and_no_candidate_is_hoped_for(rows):
    model, lengths = small_model(n_layers=4, n_future=3), [len(row) for row in rows]
    found = marginal_acceptance(model, rows, lengths)
    assert found.count == 0 and np.isnan(found.rate).all() and np.isnan(found.conditional).all()
    assert candidate_hits(model, rows, lengths, 2).tolist() == [[0, 0], [0, 0]]


def test_a_next_token_model_has_no_further_offsets():
    found = marginal_acceptance(small_model(), ROWS, LENGTHS)
    assert (found.offsets, found.rate.shape, found.conditional.shape, found.count) == ((), (0,), (0,), 0)
    assert candidate_hits(small_model(), ROWS, LENGTHS, 2).shape == (0, 2)


@pytest.mark.parametrize("kind", ["independent", "causal", "medusa_mlp"])
def test_the_drafts_of_greedy_decoding_are_those_favourites(kind):
    """Of every forward the accepted drafts are the run of favourites that were right at its position."""
    model = small_model(n_layers=6, n_future=4, future_heads=kind, seed=3)
    (row,) = generate(model, [[1, 2, 3]], DecodingConfig(max_new_tokens=9, speculative=4), cached=False).decoded
    known = len(row.prompt)
    with torch.no_grad():
        favourites = model(torch.tensor([[*row.prompt, *row.tokens]]), (2, 3, 4))[0].argmax(dim=-1)
    for step in row.steps[1:-1]:
        drafted = [draft.token for draft in step.drafts]
        assert drafted == favourites[known - 1, : len(drafted)].tolist()
        known += len(step.emitted)


@pytest.mark.parametrize(
    ("rows", "lengths", "message"),
    [
        ([], [], "there are 0 rows"),
        ([[1, 2]], [1, 1], "1 rows and 2 prompt lengths"),
        ([[1, 2]], [0], "a prompt of 0 tokens in a row of 2; write 1 to 2"),
        ([[1, 2]], [3], "a prompt of 3 tokens in a row of 2"),
        ([[1] * 13], [1], "a row of 13 tokens is longer than the context of 12"),
    ],
)
def test_rows_that_make_no_sense_are_refused(rows, lengths, message):
    for measure in (marginal_acceptance, lambda *given: candidate_hits(*given, 1)):
        with pytest.raises(ValueError, match=message):
            measure(small_model(n_future=2), rows, lengths)


@pytest.mark.parametrize("candidates", [0, 12])
def test_candidates_are_tokens_of_the_vocabulary(candidates):
    with pytest.raises(ValueError, match="write 1 to 11"):
        candidate_hits(small_model(n_future=2), ROWS, LENGTHS, candidates)


def test_it_leaves_no_trace():
    model = small_model(n_layers=4, n_future=3)
    model.train()
    model.blocks[0].eval()
    with leaves_no_trace(model):
        marginal_acceptance(model, ROWS, LENGTHS)
        candidate_hits(model, ROWS, LENGTHS, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_as_on_the_cpu():
    model, rows = small_model(n_layers=4, n_future=3), random_tokens(rows=200).tolist()
    expected, hits = marginal_acceptance(model, rows, [2] * 200), candidate_hits(model, rows, [2] * 200, 3)
    model.cuda()
    assert marginal_acceptance(model, rows, [2] * 200).rate == pytest.approx(expected.rate, abs=0.01)
    assert candidate_hits(model, rows, [2] * 200, 3) == pytest.approx(hits, abs=0.01)
