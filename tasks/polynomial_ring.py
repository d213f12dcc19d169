"""Arithmetic of truncated polynomials, F_p[X]/(X^k), on whole tensors (Gloeckle et al. 2024, section 4.2).

A polynomial is its k coefficients in 0..p-1, the constant first. Worked example, p = 7 and k = 3:

    a = 1 + 2X           [1, 2, 0]
    b = 3X + X^2         [0, 3, 1]
    a + b                [1, 5, 1]
    a * b                [0, 3, 0]      3X + 7X^2 + 2X^3
    a(b(X))              [1, 6, 2]      1 + 2(3X + X^2)

Composition is NOT an operation of the quotient ring: with a = 0 and a' = X^k, which are equal there, a(1) = 0 and
a'(1) = 1. It is defined here on the representatives of degree < k, by Horner's rule, dropping X^k and above at every
step (dropping them at the end gives the same).

Dimension letters: N polynomial, C coefficient (and I, a second one).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor


def negate(a_NC: Int[Tensor, "n coef"], prime: int) -> Int[Tensor, "n coef"]:
    """-a."""
    return (prime - a_NC) % prime


def add(a_NC: Int[Tensor, "n coef"], b_NC: Int[Tensor, "n coef"], prime: int) -> Int[Tensor, "n coef"]:
    """a + b."""
    return (a_NC + b_NC) % prime


def multiply(a_NC: Int[Tensor, "n coef"], b_NC: Int[Tensor, "n coef"], prime: int) -> Int[Tensor, "n coef"]:
    """a * b, without X^k and above."""
    return (_shifts(b_NC) * a_NC[:, None, :]).sum(dim=2) % prime


def compose(a_NC: Int[Tensor, "n coef"], b_NC: Int[Tensor, "n coef"], prime: int) -> Int[Tensor, "n coef"]:
    """a(b(X)), without X^k and above."""
    shifts_NCI = _shifts(b_NC)
    result_NC = torch.zeros_like(a_NC)
    result_NC[:, 0] = a_NC[:, -1]
    for power in reversed(range(a_NC.shape[1] - 1)):
        result_NC = (shifts_NCI * result_NC[:, None, :]).sum(dim=2)
        result_NC[:, 0] += a_NC[:, power]
        result_NC %= prime
    return result_NC


BINARY: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {"+": add, "*": multiply, "o": compose}
"""The operations on two polynomials, by their symbol in an expression."""


def _shifts(b_NC: Tensor) -> Tensor:
    """The matrix of multiplication by b: entry [n, c, i] is b's coefficient c - i, or 0 where c < i."""
    size = b_NC.shape[1]
    return F.pad(b_NC, (size - 1, 0)).unfold(1, size, 1).flip(2)
