"""Multinomial logistic regression with an L2 penalty, by L-BFGS on all examples at once.

Features are standardised, and a constant is added to them. The weights are added to the log frequencies of the classes, so
that zero weights predict the frequencies, and the penalty pulls towards these and not towards equal probabilities:

    logits = log frequency + [(x - mean) / deviation, 1] W      loss = mean cross-entropy + l2 / 2 |W|^2

The loss is strongly convex (its curvature is l2 at least), so there is ONE optimal W for any start, and the gradient bounds the
distance to it: the loss is at most |gradient|^2 / (2 l2) above the minimum (Boyd and Vandenberghe 2004, section 9.1.2). Fitting
stops when this bound is below `TOLERANCE`.

Dimension letters: N example, D feature (and the constant), C class.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

L2 = 1e-2
TOLERANCE = 1e-3
"""Upper bound, in nats per example, on the difference between the fitted loss and the minimum."""
STEPS = 10
"""Steps of L-BFGS between two evaluations of the bound."""
MOST_STEPS = 2000
"""Upper limit on the steps, for inputs on which the bound is not reached; with the penalty above about 30 steps suffice."""


class LogisticRegression:
    """A classifier fitted to finite features `[n, d]` and integer labels `[n]`, n >= 1."""

    def __init__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], *, l2: float = L2, tolerance: float = TOLERANCE
    ) -> None:
        self.mean = features.mean(dim=0)
        self.deviation = (features - self.mean).square().mean(dim=0).sqrt().clamp(min=1e-6)
        self.labels, classes = labels.unique(return_inverse=True)
        self.log_frequency = (torch.bincount(classes) / len(classes)).log()
        self.l2, self.tolerance = l2, tolerance
        self.weight = features.new_zeros(features.shape[1] + 1, len(self.labels))
        self._fit(self._prepare(features), classes)

    def predict(self, features: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """The likeliest label of each example."""
        return self.labels[self._logits(self._prepare(features)).argmax(dim=1)]

    def _prepare(self, features: Tensor) -> Tensor:
        return F.pad((features - self.mean) / self.deviation, (0, 1), value=1.0)

    def _logits(self, x_ND: Tensor) -> Tensor:
        return self.log_frequency + x_ND @ self.weight

    def _fit(self, x_ND: Tensor, classes_N: Tensor) -> None:
        optimizer = torch.optim.LBFGS(
            [self.weight.requires_grad_()],
            max_iter=STEPS,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        @torch.enable_grad()
        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(self._logits(x_ND), classes_N) + self.l2 / 2 * self.weight.square().sum()
            value.backward()
            return value

        for _ in range(MOST_STEPS // STEPS):
            optimizer.step(loss)
            loss()  # the last gradient of the line search may belong to a point that it rejected: evaluate again
            assert self.weight.grad is not None
            if self.weight.grad.square().sum().item() < 2 * self.l2 * self.tolerance:
                break
        self.weight = self.weight.detach()
