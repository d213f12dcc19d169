"""How well each offset can be read after every layer, over rows of the test set: sentences, curves and a caption."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import streamlit as st

from playground.figures.lens_curves import SHARE, LensCurve, lens_curves_figure, readable_from
from playground.results import layer_title
from playground.runs.record import RunRecord
from playground.ui.lens.data import ROWS, means
from playground.ui.lens.view import ModelOnPage
from playground.ui.shared.charts import Look, chart, html_download
from playground.ui.shared.text import plain
from playground.ui.shared.words import plural


def lens_means(shown: Sequence[ModelOnPage], records: Sequence[RunRecord], look: Look) -> None:
    """Draw sentences and curves for the chosen models."""
    st.subheader("From layer to layer", anchor=False)
    with st.spinner(f"Reading {ROWS} test rows after every layer"):
        curves = lens_curves(shown)
    st.markdown("\n".join(f"- {sentence(curve)}" for curve in curves))
    chances = chance_by_offset(records)
    d_vocab = max(item.loaded.task.d_vocab for item in shown)
    figure = lens_curves_figure(curves, chance=chances, uniform_loss=math.log(d_vocab), style=look.style)
    rows = len(shown[0].loaded.task.test_batch(ROWS).tokens)
    st.caption(
        f"Means over {plural(rows, 'test row')}. Solid: the residual stream after a layer goes through future head k, which "
        "was trained to read the last layer; a good value means that what it reads is already there, a bad one only that it is "
        "not in the directions that the head reads. Dotted: straight to the unembedding (the ordinary logit lens), one "
        "prediction for all offsets. Both end in the model's own prediction. E is the embedding, T0, T1, .. are the "
        "layers of the trunk, F is the future head. Accuracy counts the tokens that the task scores (1 is ideal), loss "
        "all tokens that are trained on (0 is ideal)."
    )
    chart(figure, "lens-means", look=look, alt="Accuracy and loss of each offset after every layer")
    html_download(lambda: figure, "lens-means")


def lens_curves(shown: Sequence[ModelOnPage]) -> list[LensCurve]:
    """The means of each model, in different shades if two have equal n."""
    seen: Counter[int] = Counter()
    curves: list[LensCurve] = []
    for item in shown:
        curves.append(
            LensCurve(title=item.title, n_future=item.n_future, variant=seen[item.n_future], lens=means(item.loaded))
        )
        seen[item.n_future] += 1
    return curves


def sentence(curve: LensCurve) -> str:
    """A sentence: after which layer each offset can be read."""
    parts = [_offset(curve, offset) for offset in range(1, curve.lens.loss.shape[1] + 1)]
    return f"**{plain(curve.title)}**: {'; '.join(parts)}."


def _offset(curve: LensCurve, offset: int) -> str:
    lens = curve.lens
    what = "the next token" if offset == 1 else f"the token {offset} ahead"
    accuracy, loss = lens.accuracy[:, offset - 1], lens.loss[:, offset - 1]
    first = readable_from(accuracy)
    if first is None or accuracy[-1] == 0:
        return f"{what} goes from a loss of {loss[0]:.2f} after the embedding to {loss[-1]:.2f} nats after the trunk"
    site = "the embedding" if first == 0 else plain(layer_title(lens.sites[first]))
    return (
        f"{what} is predicted with accuracy {accuracy[-1]:.2f} after the whole trunk, and {SHARE:.0%} of that can be read "
        f"from {site} on"
    )


def chance_by_offset(records: Sequence[RunRecord]) -> Mapping[int, float]:
    """The chance of the scores that are an accuracy at one offset, such as `repeat_accuracy_offset_2`, by offset.

    If there are several for an offset, the first that a run has is taken: its headline counts the scored tokens.
    """
    found: dict[int, float] = {}
    for record in records:
        for score in reversed(record.scores):
            name, _, offset = score.name.partition("_offset_")
            if name.endswith("_accuracy"):
                found[int(offset or 1)] = score.chance
    return found
