"""The rows that probes look at."""

import pytest
import torch

from playground.probes.rows import cut, probe_batch
from tasks.registry import make_task
from tests.cases import make_batch, random_tokens


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("induction", {"n_ctx": 40, "max_distance": 12}),
        ("stories", {"n_ctx": 48, "test_stories": 30, "n_words": 4, "n_templates": 8}),
        ("polynomial", {"n_ctx": 64, "prime": 5, "coefficients": 2, "max_operations": 3, "test_operations": 3}),
    ],
)
def test_they_are_the_first_rows_of_the_test_set_cut_short(name, options):
    task = make_task(name, **options)
    batch, whole = probe_batch(task, rows=5, most_tokens=32), task.test_batch(5)
    assert batch.tokens.shape == (5, 32)
    for part in ("tokens", "loss_mask", "score_mask", "documents"):
        assert torch.equal(getattr(batch, part), getattr(whole, part)[:, :32])
    assert torch.equal(probe_batch(task, rows=3, most_tokens=32).tokens, batch.tokens[:3])
    assert batch.tokens.device.type == "cpu"


def test_shorter_rows_and_smaller_test_sets_stay_whole():
    task = make_task("induction", n_ctx=20, max_distance=8, test_rows=3)
    assert probe_batch(task).tokens.shape == (3, 20)


def test_cutting_keeps_what_is_known_of_whole_rows():
    tokens = random_tokens(rows=2)
    batch = make_batch(tokens, score_mask=tokens > 5)
    info = {"distance": torch.tensor([3, 4])}
    short = cut(type(batch)(**(vars(batch) | {"info": info})), 4)
    assert torch.equal(short.score_mask, tokens[:, :4] > 5) and short.documents.shape == (2, 4)
    assert short.info is info
