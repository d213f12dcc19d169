"""Multinomial logistic regression with an L2 penalty, by L-BFGS on all examples at once.

Features are standardised, and a constant is added to them. The weights act on top of the log frequencies of the classes, so
that weights of zero predict the frequencies, and the penalty pulls towards them and not towards equal classes:

    logits = log frequency + [(x - mean) / deviation, 1] W      loss = mean cross-entropy + l2 / 2 |W|^2

The loss is strongly convex (its curvature is l2 at least), so that there is ONE best W, whatever one starts from, and the
gradient says how far it is: the loss lies at most |gradient|^2 / (2 l2) above the lowest (Boyd and Vandenberghe 2004,
section 9.1.2). Fitting ends when this bound is below `TOLERANCE`.

Dimension letters: N example, D feature (and the constant), C class.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

L2 = 1e-2
TOLERANCE = 1e-3
"""Nats per example that the loss may lie above the lowest one."""
STEPS = 10
"""Steps of L-BFGS from one look at the gradient to the next."""
MOST_STEPS = 2000
"""Ends what the bound does not end; the penalty above needs some 30 steps."""


class LogisticRegression:
    """Fitted to finite features and to labels (any whole numbers), of which there is at least one."""

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
            loss()  # the line search may have looked further than it went, so that the gradient is of another place
            assert self.weight.grad is not None
            if self.weight.grad.square().sum().item() < 2 * self.l2 * self.tolerance:
                break
        self.weight = self.weight.detach()
