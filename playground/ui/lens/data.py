"""Computations of the Lens page on a loaded model: one row read after every layer, and means over test rows.

Imports PyTorch only when something is computed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from playground.figures.lens import Reading, readable
from playground.results import Lens, layer_title
from playground.ui.shared.models import Loaded, kept, one_at_a_time

if TYPE_CHECKING:
    from torch import Tensor

    from playground.model.transformer import MTPTransformer
    from tasks.base import Batch, Task

Way = Literal["through", "direct"]
ROWS = 32
"""Test rows that the means are taken over."""
RANKS = 3


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """One row of tokens, without its padding, as a batch of one."""

    batch: "Batch"
    cut: int = 0
    """Number of tokens cut at the end of the row, because the model's context is shorter."""

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(self.batch.tokens[0].tolist())

    @property
    def first_scored(self) -> int:
        """Position of the first token that the task scores, or the row's length if there is none."""
        scored = self.batch.score_mask[0].nonzero()
        return int(scored[0]) if len(scored) else len(self.tokens)


def row_of_test_set(task: "Task", number: int) -> TokenRow:
    """A row of the test set; the last one if `number` is too large."""
    batch = task.test_batch(number + 1)
    batch = batch.rows(len(batch.tokens) - 1, len(batch.tokens))
    length = int((batch.documents[0] >= 0).sum())
    return TokenRow(batch=_first(batch, length))


def typed_row(task: "Task", text: str) -> TokenRow:
    """A typed row, without scored tokens. Raises ValueError as `Task.encode` does."""
    import torch

    from tasks.base import Batch

    tokens = torch.tensor([task.encode(text)])
    everything = torch.ones_like(tokens, dtype=torch.bool)
    batch = Batch(tokens=tokens, loss_mask=everything, score_mask=~everything, documents=torch.zeros_like(tokens))
    return TokenRow(batch=_first(batch, task.n_ctx), cut=max(0, tokens.shape[1] - task.n_ctx))


@one_at_a_time
def read_row(loaded: Loaded, row: TokenRow, *, offset: int, way: Way, title: str) -> Reading:
    """Predictions of every layer along the row. Read directly, one more row at the top is the model's own prediction."""
    from playground.probes.lens import lens_view

    view = lens_view(loaded.model, row.batch.tokens[0], ranks=min(RANKS, loaded.task.d_vocab))
    layers = ["embed" if site == "embed" else layer_title(site) for site in view.sites]
    through, through_probability = view.through[:, offset - 1], view.probability[:, offset - 1]
    ranked, probability = through, through_probability
    if way == "direct":
        layers.append(f"future head {offset}")
        ranked = np.concatenate([view.direct, through[-1:]])
        probability = np.concatenate([view.direct_probability, through_probability[-1:]])
    comes, scored = _what_comes(row.batch, offset)
    strings = [readable(text) for text in loaded.task.token_strings(range(loaded.task.d_vocab))]
    return Reading(
        title=title,
        offset=offset,
        layers=tuple(layers),
        tokens=tuple(strings[token] for token in view.tokens),
        predicted=tuple(
            tuple(tuple(strings[token] for token in ranks) for ranks in layer) for layer in ranked.tolist()
        ),
        probability=probability,
        true=tuple(strings[token] if token >= 0 else None for token in comes.tolist()),
        true_probability=_probability_of(loaded.model, row.batch.tokens, comes, offset, way),
        right=ranked[:, :, 0] == comes,
        scored=scored,
    )


@one_at_a_time
@kept(16)
def means(loaded: Loaded) -> Lens:
    """Loss and accuracy after every layer, over the first test rows."""
    from playground.probes.lens import lens

    return lens(loaded.model, loaded.task.test_batch(ROWS))


def _first(batch: "Batch", length: int) -> "Batch":
    from tasks.base import Batch

    parts = (batch.tokens, batch.loss_mask, batch.score_mask, batch.documents)
    tokens, loss_mask, score_mask, documents = (part[:, :length] for part in parts)
    return Batch(tokens=tokens, loss_mask=loss_mask, score_mask=score_mask, documents=documents)


def _what_comes(batch: "Batch", offset: int) -> tuple[np.ndarray, np.ndarray]:
    """The token that comes at each position (negative after the end), and whether the task scores it."""
    from dataclasses import replace

    import torch

    from tasks.targets import IGNORED, future_targets, score_targets

    everything = replace(batch, loss_mask=torch.ones_like(batch.loss_mask))
    comes, scored = future_targets(everything, offset), score_targets(batch, offset) != IGNORED
    return comes[0].numpy(), scored[0].numpy()


def _probability_of(model: "MTPTransformer", tokens: "Tensor", comes: np.ndarray, offset: int, way: Way) -> np.ndarray:
    """`[layer, position]`: the probability of the token that comes, NaN after the end of the row."""
    import torch

    from playground.probes.quiet import quietly
    from playground.probes.residuals import trunk_streams

    with quietly(model):
        streams = list(trunk_streams(model, tokens).values())
        through = [model.logits(model.future_resid(resid, offset, tokens), offset) for resid in streams]
        logits = through if way == "through" else [*(model.logits(resid) for resid in streams), through[-1]]
        probability_LTV = torch.cat(logits).float().softmax(dim=-1)
    index_LT1 = torch.from_numpy(comes).clamp(min=0).expand(len(logits), -1)[..., None]
    found_LT = probability_LTV.gather(-1, index_LT1)[..., 0].double().numpy()
    return np.where(comes >= 0, found_LT, np.nan)
