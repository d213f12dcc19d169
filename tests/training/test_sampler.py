"""Batches drawn ahead: the same rows in the same order, and a state from which the next batch is the next batch."""

import pytest
import torch

from playground.training.sampler import Sampler
from tasks.base import Batch, seeded_generator
from tasks.induction import Induction, InductionConfig

TASK = Induction(InductionConfig(n_ctx=12, d_vocab=11, min_distance=3, max_distance=6, test_rows=16))


def make(block: int, seed: int = 0) -> Sampler:
    sampler = Sampler(TASK, 3, seeded_generator(seed), "cpu")
    sampler.block = sampler.used = block  # as on a GPU
    return sampler


def tokens(batches: list[Batch]) -> list[list[list[int]]]:
    return [batch.tokens.tolist() for batch in batches]


def test_on_the_cpu_a_batch_is_drawn_when_it_is_asked_for():
    generator = seeded_generator(0)
    sampler = Sampler(TASK, 3, seeded_generator(0), "cpu")
    assert tokens([sampler() for _ in range(5)]) == tokens([TASK.sample(3, generator) for _ in range(5)])


def test_a_block_is_handed_out_batch_by_batch():
    sampler, whole = make(4), TASK.sample(12, seeded_generator(0))
    drawn = [sampler() for _ in range(5)]
    assert tokens(drawn[:4]) == tokens(whole.split(3))
    assert len({str(rows) for rows in tokens(drawn)}) == 5
    assert drawn[0].info["distance"].shape == (3,)


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("after", [0, 1, 3, 4, 6])
def test_a_sampler_goes_on_where_another_stood(block, after):
    sampler, other = make(block), make(block, seed=1)
    for _ in range(after):
        sampler()
    other.restore(sampler.counters())
    assert tokens([other() for _ in range(6)]) == tokens([sampler() for _ in range(6)])


def test_a_state_of_another_kind_of_device_is_refused():
    with pytest.raises(RuntimeError):
        make(1).restore({"generator": torch.zeros(16, dtype=torch.uint8)})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_few_large_draws():
    sampler = Sampler(TASK, 3, seeded_generator(0, "cuda"), "cuda")
    assert sampler.block == 4096 // 3
    assert [sampler().tokens.shape for _ in range(33)] == [(3, 12)] * 33
