"""Bars and lines of probes: behaviour, ablation, knockout, patching by position, lens, linear probes, gradients, agreement."""

import re
from collections.abc import Mapping

import plotly.graph_objects as go

from playground.figures.ablation import component_title
from playground.figures.lens_curves import LensCurve, lens_curves_figure
from playground.figures.style import Style
from playground.figures.table_charts import Drawn, Tables, bars_figure, lines_figure
from playground.results import (
    AblationEffects,
    Behaviour,
    GradientShares,
    Knockout,
    Lens,
    LinearProbes,
    OffsetAgreement,
    PositionPatching,
    Result,
    Row,
)

SHARE = (-0.04, 1.04)
"""Axis of numbers between 0 and 1."""


def behaviour_figure(results: Mapping[str, Behaviour], style: Style = "screen") -> go.Figure:
    """Loss, accuracy and in-context learning score of every offset."""
    titles = {
        "scored accuracy": "accuracy on scored tokens",
        "loss": "loss, all targets (nats)",
        "late - early loss": "loss late minus early (nats)",
    }
    drawn = Drawn(values=list(titles), titles=titles, limits={"scored accuracy": SHARE})
    return lines_figure(_tables(results), "offset", drawn, style=style)


def ablation_figure(results: Mapping[str, AblationEffects], style: Style = "screen") -> go.Figure:
    """Change of accuracy and loss of every offset without each part; whiskers are the spread over batches."""
    tables = {
        title: [row | {"part": component_title(str(row["ablated"]))} for row in result.rows()]
        for title, result in results.items()
    }
    drawn = Drawn(
        values=["accuracy change", "loss change"],
        panel="offset",
        titles={"accuracy change": "accuracy", "loss change": "loss (nats)"},
        spread={"accuracy change": "accuracy spread", "loss change": "loss spread"},
        order=depth,
    )
    return bars_figure(tables, "part", drawn, style=style)


def knockout_figure(results: Mapping[str, Knockout], style: Style = "screen") -> go.Figure:
    """Accuracy of the whole model and without each group of heads; the tick is the worst draw of random other heads."""
    tables: dict[str, list[Row]] = {}
    for title, found in results.items():
        worst = float(found.without_others.min()) if len(found.without_others) else float("nan")
        draws = float(found.without_others.mean()) if len(found.without_others) else float("nan")
        spread = float(found.without_others.std()) if len(found.without_others) else float("nan")
        groups = (
            ("whole model", found.accuracy, None, None),
            ("without the induction heads", found.without_induction, found.without_induction_spread, None),
            ("without the previous-token heads", found.without_previous, None, None),
            ("without as many random other heads", draws, spread, worst),
        )
        tables[title] = [
            {"model": name, "accuracy": value, "spread": wide, "worst draw": least}
            for name, value, wide, least in groups
        ]
    drawn = Drawn(
        values=["accuracy"],
        titles={"accuracy": "accuracy on scored tokens, offset 1", "worst draw": "worst draw of random heads"},
        spread={"accuracy": "spread"},
        beside={"accuracy": ["worst draw"]},
        limits={"accuracy": SHARE},
    )
    return bars_figure(tables, "model", drawn, style=style)


def position_patching_figure(results: Mapping[str, PositionPatching], style: Style = "screen") -> go.Figure:
    """Recovery by patching the residual stream before each layer, at the earlier occurrence, its next token and the query."""
    tables = {
        title: [row | {"layer": site_name(str(row["patched"]))} for row in result.rows()]
        for title, result in results.items()
    }
    drawn = Drawn(
        values=["recovery"], titles={"layer": "residual stream before", "recovery": "recovery (1: all restored)"}
    )
    return lines_figure(tables, "layer", drawn, series="at", by_panel=True, style=style)


def lens_layers_figure(results: Mapping[str, Lens], style: Style = "screen") -> go.Figure:
    """Accuracy and loss of every offset read after each layer, through its future head and directly."""
    curves: list[LensCurve] = []
    for title, found in results.items():
        n_future = found.loss.shape[1]
        same = sum(curve.n_future == n_future for curve in curves)
        curves.append(LensCurve(title=title, n_future=n_future, variant=same, lens=found))
    return lens_curves_figure(curves, style=style)


def linear_figure(results: Mapping[str, LinearProbes], style: Style = "screen") -> go.Figure:
    """Accuracy of linear read-outs after each layer, beside the n-gram and a probe of shuffled labels; a panel per target."""
    tables = {
        title: [row | {"layer": site_name(str(row["site"]))} for row in result.rows()]
        for title, result in results.items()
    }
    drawn = Drawn(
        values=["accuracy"],
        panel="target",
        titles={"layer": "residual stream after", "accuracy": "accuracy"},
        beside={"accuracy": ["n-gram", "shuffled labels"]},
        limits={"accuracy": SHARE},
        order=depth,
    )
    return lines_figure(tables, "layer", drawn, style=style)


def gradients_figure(results: Mapping[str, GradientShares], style: Style = "screen") -> go.Figure:
    """Share of every offset in the gradient at the trunk output, and its cosine with the gradient of offset 1."""
    orthogonal = {
        title: [row | {"if orthogonal": len(result.share) ** -0.5} for row in result.rows()]
        for title, result in results.items()
    }
    drawn = Drawn(
        values=["share of the gradient", "cosine with 1"],
        titles={"cosine with 1": "cosine with offset 1"},
        beside={"share of the gradient": ["if orthogonal"]},
    )
    return lines_figure(orthogonal, "offset", drawn, style=style)


def agreement_figure(results: Mapping[str, OffsetAgreement], style: Style = "screen") -> go.Figure:
    """Share of equal predictions of offset k and, k - 1 tokens later, offset 1, beside chance."""
    drawn = Drawn(
        values=["agreement"],
        titles={"agreement": "agreement with offset 1"},
        beside={"agreement": ["chance"]},
        limits={"agreement": SHARE},
    )
    return lines_figure(_tables(results), "offset", drawn, style=style)


def site_name(site: str) -> str:
    """Short name of a place in the residual stream.

    >>> [site_name(name) for name in ("embed", "blocks.1", "future_heads.0.hook_resid_pre")]
    ['embed', 'T1', 'F1']
    """
    kind, _, rest = site.partition(".")
    number = rest.partition(".")[0]
    if not number.isdecimal():
        return site
    return f"F{int(number) + 1}" if kind == "future_heads" else f"T{number}"


def depth(name: str) -> tuple[int, ...]:
    """Sorts names of layers and parts from the input on: the embedding, the trunk's (`T0.1`), the future heads' (`F1 MLP`).

    >>> sorted(["F2", "T1", "embed", "F1", "T0"], key=depth)
    ['embed', 'T0', 'T1', 'F1', 'F2']
    """
    found = re.match(r"([TF])(\d+)", name)
    return (0, 0) if found is None else ("TF".index(found[1]) + 1, int(found[2]))


def _tables(results: Mapping[str, Result]) -> Tables:
    return {title: result.rows() for title, result in results.items()}
