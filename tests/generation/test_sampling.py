"""From logits to probabilities, and from numbers to tokens: tables."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from playground.generation.config import Sampling
from playground.generation.sampling import distribution, draw

HALVES = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
TIES = torch.tensor([1.0, 2.0, 1.0, 0.0])


def sampling(**changes) -> Sampling:
    return Sampling(**({"temperature": 1.0} | changes))


@pytest.mark.parametrize(
    ("logits", "how", "expected"),
    [
        (HALVES, sampling(), [0.5, 0.25, 0.125, 0.125]),
        (HALVES, sampling(temperature=0.5), [16 / 22, 4 / 22, 1 / 22, 1 / 22]),
        (HALVES, sampling(temperature=1e-3), [1, 0, 0, 0]),
        (HALVES, sampling(temperature=1e-40), [1, 0, 0, 0]),  # logits over it would overflow
        (TIES * 1e30, sampling(temperature=1e-20), [0, 1, 0, 0]),
        (HALVES, sampling(temperature=1e9), [0.25, 0.25, 0.25, 0.25]),
        (HALVES, Sampling(), [1, 0, 0, 0]),
        (TIES, Sampling(), [0, 1, 0, 0]),
        (torch.zeros(4), Sampling(), [1, 0, 0, 0]),
        (HALVES, sampling(top_k=1), [1, 0, 0, 0]),
        (HALVES, sampling(top_k=2), [2 / 3, 1 / 3, 0, 0]),
        (HALVES, sampling(top_k=3), [0.5, 0.25, 0.125, 0.125]),  # the edge is a tie, and both stay
        (HALVES, sampling(top_k=4), [0.5, 0.25, 0.125, 0.125]),
        (HALVES, sampling(top_k=99), [0.5, 0.25, 0.125, 0.125]),
        (torch.zeros(4), sampling(top_k=1), [0.25, 0.25, 0.25, 0.25]),
        (TIES, sampling(top_k=2), (TIES.exp() / TIES[:3].exp().sum() * torch.tensor([1, 1, 1, 0])).tolist()),
        (HALVES, sampling(top_p=1e-9), [1, 0, 0, 0]),
        (HALVES, sampling(top_p=0.499), [1, 0, 0, 0]),
        (HALVES, sampling(top_p=0.501), [2 / 3, 1 / 3, 0, 0]),
        (HALVES, sampling(top_p=0.74), [2 / 3, 1 / 3, 0, 0]),
        (HALVES, sampling(top_p=0.99), [0.5, 0.25, 0.125, 0.125]),
        (HALVES, sampling(top_p=1.0), [0.5, 0.25, 0.125, 0.125]),
        (HALVES[[3, 1, 2, 0]], sampling(top_p=0.7), [0, 1 / 3, 0, 2 / 3]),
        (HALVES, sampling(top_k=2, top_p=0.5), [1, 0, 0, 0]),  # top-p is of what top-k leaves
        (HALVES, sampling(top_k=2, top_p=0.67), [2 / 3, 1 / 3, 0, 0]),
        (torch.tensor([0.0, -torch.inf, 0.0]), sampling(), [0.5, 0, 0.5]),
        (torch.tensor([3.0]), sampling(top_k=1, top_p=0.1), [1]),
    ],
)
def test_distribution(logits, how, expected):
    for shape in ((), (1,), (2, 3)):
        found = distribution(logits.expand(*shape, -1), how)
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=torch.float32).expand(*shape, -1), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(("top_p", "kept"), [(0.2, 1), (0.26, 2), (0.5, 2), (0.51, 3), (1.0, 4)])
def test_top_p_of_equals_takes_as_many_as_it_needs(top_p, kept):
    found = distribution(torch.zeros(4), sampling(top_p=top_p))
    assert (found > 0).sum() == kept and found.sum() == pytest.approx(1)


def test_temperature_one_is_softmax_and_a_small_one_is_greedy():
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(distribution(logits, sampling()), logits.softmax(dim=-1))
    torch.testing.assert_close(distribution(logits, sampling(temperature=1e-6)), distribution(logits, Sampling()))


@pytest.mark.parametrize(
    ("probability", "uniform", "token"),
    [
        ([0.5, 0.0, 0.5], 0.0, 0),
        ([0.5, 0.0, 0.5], 0.4999, 0),
        ([0.5, 0.0, 0.5], 0.5, 2),
        ([0.5, 0.0, 0.5], 0.9999, 2),
        ([0.0, 1.0, 0.0], 0.0, 1),
        ([0.0, 1.0, 0.0], 0.99999994, 1),
        ([0.0, 0.0, 1.0], 0.0, 2),
        ([1.0, 0.0, 0.0], 0.99999994, 0),
        ([3.0, 1.0, 0.0], 0.74, 0),
        ([3.0, 1.0, 0.0], 0.76, 1),
        ([1e-30, 0.0, 3e-30], 0.2, 0),
        ([1e-30, 0.0, 3e-30], 0.3, 2),
        ([1.0], 0.7, 0),
        ([0.1] * 10 + [0.0], 0.99999994, 9),
    ],
)
def test_draw(probability, uniform, token):
    given_ = torch.tensor(probability), torch.tensor(uniform)
    assert draw(*given_).item() == token
    assert draw(given_[0].expand(2, 3, -1), given_[1].expand(2, 3)).tolist() == [[token] * 3] * 2


weights = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12).filter(lambda values: sum(values) > 1e-30)


@given(weights, st.floats(0, 1, width=32, exclude_max=True))
def test_no_token_of_probability_zero_is_ever_drawn(values, uniform):
    token = int(draw(torch.tensor(values), torch.tensor(uniform)))
    assert values[token] > 0


def test_draws_are_as_frequent_as_probable():
    probability = torch.tensor([0.1, 0.0, 0.6, 0.3])
    uniform = (torch.arange(1000) + 0.5) / 1000
    assert draw(probability.expand(1000, -1), uniform).bincount(minlength=4).tolist() == [100, 0, 600, 300]


def test_among_thousands_of_tokens_most_of_them_of_probability_zero():
    """The first and the last included; at both ends of [0, 1)."""
    random = torch.Generator().manual_seed(0)
    probability = torch.rand(500, 3000, generator=random) * (torch.rand(500, 3000, generator=random) < 0.01)
    probability[:, 0] = probability[:, -1] = 0
    for uniform in (torch.zeros(500), torch.full((500,), 1 - 2**-24), torch.rand(500, generator=random)):
        assert (probability.gather(1, draw(probability, uniform)[:, None]) > 0).all()
