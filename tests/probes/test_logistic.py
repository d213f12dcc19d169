"""Logistic regression against plain gradient descent, and on problems with a known answer."""

import pytest
import torch
import torch.nn.functional as F

from playground.probes.logistic import LogisticRegression


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _classes(n: int, n_classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(n_classes, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_the_lowest_loss_is_reached(l2):
    """Plain gradient descent in double precision, run until nothing moves, is not lower than the bound says."""
    labels = _classes(200, 4)
    features = (F.one_hot(labels, 6) + _random(200, 6)) * 3 + 5
    fitted = LogisticRegression(features, labels, l2=l2, tolerance=1e-3)
    x = F.pad(
        (features.double() - features.double().mean(0)) / features.double().std(0, correction=0), (0, 1), value=1.0
    )
    log_frequency = (torch.bincount(labels).double() / 200).log()

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(log_frequency + x @ weight, labels) + l2 / 2 * weight.square().sum()

    weight = torch.zeros(7, 4, dtype=torch.float64, requires_grad=True)
    for _ in range(3000):
        (gradient,) = torch.autograd.grad(loss(weight), weight)
        weight.data -= gradient
    (gradient,) = torch.autograd.grad(loss(weight), weight)
    assert gradient.norm() < 1e-4
    assert loss(weight) - 1e-6 <= loss(fitted.weight.double()) <= loss(weight) + 1e-3


def test_separate_groups_are_told_apart_whatever_their_labels_units_and_place():
    labels = torch.tensor([5, -2, 900])[_classes(300, 3)]
    centres = {5: [0.0, 0.0], -2: [1e-3, 0.0], 900: [0.0, 1e3]}
    features = torch.tensor([centres[label] for label in labels.tolist()])
    features = features * (1 + 0.01 * _random(300, 2)) + torch.tensor([7.0, -1e4])
    assert torch.equal(LogisticRegression(features, labels).predict(features), labels)


def test_what_is_not_linear_is_not_read():
    """The exclusive or of two features: there, but for no linear read-out."""
    bits = _classes(2000, 2, seed=1).view(1000, 2)
    labels = bits[:, 0] ^ bits[:, 1]
    read = LogisticRegression(bits.float() + 0.05 * _random(1000, 2), labels).predict(bits.float())
    assert (read == labels).double().mean() < 0.8  # three of the four corners at best
    both = torch.cat([bits.float(), labels[:, None].float()], dim=1)
    assert torch.equal(LogisticRegression(both, labels).predict(both), labels)


def test_features_that_say_nothing_leave_the_most_frequent_label():
    labels = torch.tensor([3] * 50 + [4] * 30 + [9] * 20)
    for features in (torch.ones(100, 5), torch.zeros(100, 5), 0.1 + torch.zeros(100, 5)):
        assert (LogisticRegression(features, labels).predict(features) == 3).all()
    assert (LogisticRegression(_random(100, 2), torch.full((100,), 6)).predict(_random(100, 2)) == 6).all()


def test_it_repeats_exactly_and_works_inside_no_grad():
    features, labels = _random(200, 5), _classes(200, 3)
    first = LogisticRegression(features, labels)
    with torch.no_grad():
        second = LogisticRegression(features, labels)
        assert not torch.is_grad_enabled()
    assert torch.equal(first.weight, second.weight)
    assert not first.weight.requires_grad


def test_features_are_not_changed():
    features, labels = _random(50, 3), _classes(50, 2)
    before = features.clone()
    LogisticRegression(features, labels).predict(features)
    assert torch.equal(features, before)
