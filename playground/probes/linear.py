"""Linear probes (Alain and Bengio 2016, 1610.01644): the information that a linear classifier reads from the residual stream.

The labels at every position are the tokens 1, 2, .. ahead (Pal et al. 2023, 2311.04897, for models trained on the next token),
or another quantity that a task defines per position, such as the value of the subexpression that ends there.

An accuracy is reported with two baselines. The n-gram model of the current tokens (playground/probes/ngram.py) uses no
activations: the accuracy of a probe above it is due to computation in the layers. It is counted on COUNTED tokens of training
samples, because the model has also seen millions; counted on the few rows that probes are trained on, it would be weaker than
the information in the model's embedding. The control is a probe trained on shuffled labels; it reaches about the frequency of
the commonest label. All accuracies are measured on rows that were used for no training or counting.

Sites are `embed`, the trunk layers, and the future heads (`future_heads.0`, ..): the residual stream after each.

Dimension letters: N labelled position, D d_model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from playground.figures.probe_charts import linear_figure
from playground.model.transformer import MTPTransformer
from playground.probes.logistic import LogisticRegression
from playground.probes.ngram import examples, ngram_accuracy
from playground.probes.probe import Probe, probe_generator
from playground.probes.quiet import quietly
from playground.probes.residuals import trunk_streams
from playground.probes.rows import cut, probe_batch
from playground.results import LinearProbes
from tasks.base import Batch, Task
from tasks.polynomial import Polynomial
from tasks.polynomial_values import NO_VALUE
from tasks.targets import IGNORED, future_targets

MOST_AHEAD = 4
"""The largest distance ahead of a token target; n_future where that is larger."""
POSITIONS = 4096
"""About how many targets the rows for training the probes contain."""
COUNTED = 1 << 20
"""About how many tokens of training samples the n-gram is counted on; takes a second per target."""
ROWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class ProbeTarget:
    """What a probe reads out: a label for every position of the training and test rows, IGNORED where there is none."""

    name: str
    train: Int[Tensor, "train_batch train_pos"]
    test: Int[Tensor, "test_batch test_pos"]
    counted: Int[Tensor, "counted_batch counted_pos"] | None = None
    """Labels of the rows that the n-gram counts; None: it counts the training rows."""


def linear_rows(task: Task, positions: int = POSITIONS) -> tuple[Batch, Batch]:
    """Training rows with about `positions` targets, and test rows with half as many, from the fixed test set of the task.

    Both are smaller if the test set is small.
    """
    few = probe_batch(task)
    per_row = few.loss_mask.sum().item() / len(few.tokens)
    batch = probe_batch(task, math.ceil(1.5 * positions / max(per_row, 1)))
    used = (batch.documents >= 0).any(dim=0).sum().item()  # padding is at the end
    batch, split = cut(batch, int(used)), round(len(batch.tokens) * 2 / 3)
    return batch.rows(0, split), batch.rows(split, len(batch.tokens))


def counted_rows(task: Task, generator: torch.Generator, tokens: int) -> Batch:
    """Training samples with about `tokens` tokens, for counting n-grams. `generator` (on the CPU) draws them."""
    return task.sample(max(1, tokens // task.n_ctx), generator)


def token_targets(train: Batch, test: Batch, most_ahead: int, counted: Batch | None = None) -> tuple[ProbeTarget, ...]:
    """The tokens 1 to `most_ahead` ahead, where they are targets of the task's training in the same document."""
    return tuple(
        ProbeTarget(
            name=f"token +{ahead}",
            train=future_targets(train, ahead),
            test=future_targets(test, ahead),
            counted=None if counted is None else future_targets(counted, ahead),
        )
        for ahead in range(1, most_ahead + 1)
    )


def value_targets(task: Polynomial, train: Batch, test: Batch, counted: Batch | None = None) -> tuple[ProbeTarget, ...]:
    """Each coefficient of the proper subexpressions, at the token that completes one (tasks/polynomial_values.py)."""

    def labels(batch: Batch) -> list[Tensor]:
        values = task.intermediate_values(batch)
        return list(values.masked_fill(values == NO_VALUE, IGNORED).unbind(dim=2))

    first, second, third = labels(train), labels(test), None if counted is None else labels(counted)
    return tuple(
        ProbeTarget(
            name=f"value of a subexpression, coefficient {c}",
            train=first[c],
            test=second[c],
            counted=None if third is None else third[c],
        )
        for c in range(len(first))
    )


def linear_probes(
    model: MTPTransformer,
    train: Batch,
    test: Batch,
    generator: torch.Generator,
    targets: Sequence[ProbeTarget] | None = None,
    counted: Batch | None = None,
) -> LinearProbes:
    """Train a probe of every site for every target on the rows of `train`, and measure it on those of `test`.

    Without `targets` the targets are the tokens up to max(n_future, 4) ahead. The n-gram counts the rows `counted`, such as
    `counted_rows(task, generator, COUNTED)`; without them it counts those of `train`, which are too few, so that the baseline
    is too low. `generator` (on the CPU) shuffles the labels of the control. The accuracy is NaN for a target without labels in
    one of the two sets, and for a residual stream that is not finite.
    """
    if targets is None:
        targets = token_targets(train, test, max(MOST_AHEAD, model.n_future), counted)
    return LinearProbe(train, test, targets, generator, counted)(model)


class LinearProbe:
    """`linear_probes` with fixed rows and targets, prepared once for many models: `LinearProbe(train, test, ..)(model)`."""

    def __init__(
        self,
        train: Batch,
        test: Batch,
        targets: Sequence[ProbeTarget],
        generator: torch.Generator,
        counted: Batch | None = None,
    ) -> None:
        """Prepare labels and the n-gram baseline; `counted` holds the rows that the n-gram counts (None: those of `train`).

        Raises ValueError without targets, without rows in one of the two sets, and where only one of `counted` and the
        targets' `counted` labels is given.
        """
        if not targets:
            raise ValueError("there is nothing to read out; write targets such as token_targets(train, test, 4)")
        if not len(train.tokens) or not len(test.tokens):
            raise ValueError(
                f"there are {len(train.tokens)} rows to train on and {len(test.tokens)} to measure on; "
                "write at least one of each, better thousands of tokens"
            )
        self.names = tuple(target.name for target in targets)
        self._train = _Labelled(train, [target.train for target in targets])
        self._test = _Labelled(test, [target.test for target in targets])
        self._shuffled = [_shuffle(labels, generator) for labels in self._train.labels]
        if any((target.counted is None) != (counted is None) for target in targets):
            raise ValueError("counted rows need targets with labels of them: write token_targets(.., counted=counted)")
        known = [examples(*_counted(target, train, counted)) for target in targets]
        self.counted = np.array([len(own) for own in known])
        self.baseline = np.array(
            [ngram_accuracy(own, examples(test, target.test)) for own, target in zip(known, targets, strict=True)]
        )

    def __call__(self, model: MTPTransformer) -> LinearProbes:
        train, test = self._train.streams(model), self._test.streams(model)
        columns = (self._train.labels, self._shuffled, self._test.labels)
        accuracy, shuffled = np.moveaxis(
            np.array(
                [
                    [_accuracies(train[site], test[site], *labels) for labels in zip(*columns, strict=True)]
                    for site in train
                ]
            ),
            2,
            0,
        )
        return LinearProbes(
            sites=tuple(train),
            targets=self.names,
            accuracy=accuracy,
            shuffled=shuffled,
            baseline=self.baseline,
            counted=self.counted,
        )


def _counted(target: ProbeTarget, train: Batch, counted: Batch | None) -> tuple[Batch, Tensor]:
    """The rows that the n-gram is counted on, and their labels."""
    return (train, target.train) if counted is None or target.counted is None else (counted, target.counted)


class _Labelled:
    """The positions of a batch that have at least one label, and for each target the labels at these positions."""

    def __init__(self, batch: Batch, labels: Sequence[Tensor]) -> None:
        stacked = torch.stack([table.cpu() for table in labels])
        self.batch = batch.to("cpu")
        self.where = (stacked != IGNORED).any(dim=0)
        self.labels = list(stacked[:, self.where])

    def streams(self, model: MTPTransformer) -> dict[str, Tensor]:
        """The residual stream `[n, d_model]` at these positions after every site, by the site's name."""
        parts = []
        for batch, where in zip(self.batch.split(ROWS_AT_ONCE), self.where.split(ROWS_AT_ONCE), strict=True):
            parts.append({site: stream[where].float() for site, stream in _all_streams(model, batch.tokens).items()})
        return {site: torch.cat([part[site] for part in parts]) for site in parts[0]}


def _all_streams(model: MTPTransformer, tokens: Tensor) -> dict[str, Tensor]:
    streams = trunk_streams(model, tokens)
    z = list(streams.values())[-1]
    with quietly(model):
        resids = model.future_resids(z, tokens.to(z.device))
    return streams | {f"future_heads.{index}": stream for index, stream in enumerate(resids)}


def _shuffle(labels: Tensor, generator: torch.Generator) -> Tensor:
    """The labels in random order; IGNORED entries keep their places."""
    labels, there = labels.clone(), labels != IGNORED
    own = labels[there]
    labels[there] = own[torch.randperm(len(own), generator=generator)]
    return labels


def _accuracies(train: Tensor, test: Tensor, labels: Tensor, shuffled: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Test accuracies of a probe trained on `labels`, and of one trained on the `shuffled` labels; NaN if undefined."""
    labels, shuffled, wanted = (part.to(train.device) for part in (labels, shuffled, wanted))
    there, there_in_test = labels != IGNORED, wanted != IGNORED
    finite = bool(train.isfinite().all() and test.isfinite().all())  # false after the training has diverged
    if not (finite and there.any() and there_in_test.any()):
        return float("nan"), float("nan")
    predicted = [
        LogisticRegression(train[there], own[there]).predict(test[there_in_test]) for own in (labels, shuffled)
    ]
    accuracy, control = ((own == wanted[there_in_test]).double().mean().item() for own in predicted)
    return accuracy, control


def _prepared(task: Task, n_future: int) -> LinearProbe:
    (train, test), counted = linear_rows(task), counted_rows(task, probe_generator(), COUNTED)
    targets = token_targets(train, test, max(MOST_AHEAD, n_future), counted)
    if isinstance(task, Polynomial):
        targets += value_targets(task, train, test, counted)
    return LinearProbe(train, test, targets, probe_generator(), counted)


PROBE = Probe(
    name="linear",
    summary="Accuracy of linear read-outs of the next tokens from every layer; baselines: n-grams, shuffled labels.",
    result=LinearProbes,
    make=_prepared,
    figure=linear_figure,
)
