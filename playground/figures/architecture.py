"""Drawing of the architecture: tokens, trunk, future heads, one unembedding (after Gloeckle et al. 2024, figure 1)."""

from collections.abc import Sequence

import plotly.graph_objects as go

from playground.figures.style import GREY, Style, apply_style, color_of, see_through

BOX_HEIGHT = 0.62
TRUNK_COLOR = "#2b83c4"


def architecture_figure(
    *,
    n_future: int,
    n_trunk_layers: int,
    paths: Sequence[Sequence[int]] = (),
    notes: Sequence[str] = (),
    style: Style = "screen",
) -> go.Figure:
    """The input is at the bottom. `n_trunk_layers` is the number of trunk layers under the chosen control.

    `paths`: for each offset the indices of the future heads that it runs through (empty: each on the trunk); a future head that
    reads another one is above it. `notes`: a second line for each future head (HTML), or none.
    """
    figure = go.Figure()
    paths = paths or [(index,) for index in range(n_future)]
    width = 2.0
    left, right = 0.0, width * n_future
    middle = (left + right) / 2
    half = max(1.3, width * 0.65)
    _box(figure, middle, 0, half, "tokens x<sub>1</sub> .. x<sub>t</sub>, embedded", GREY)
    for layer in range(n_trunk_layers):
        _box(figure, middle, layer + 1, half, f"trunk {layer}", TRUNK_COLOR)
    top = n_trunk_layers + 1
    for layer in range(1, top):
        _arrow(figure, middle, layer - 1, middle, layer)
    places = [(left + width * (index + 0.5), top - 0.55 + len(path)) for index, path in enumerate(paths)]
    above = max(y for _, y in places) + 1
    for offset, (path, (x, y), note) in enumerate(zip(paths, places, notes or [""] * n_future, strict=True), start=1):
        _arrow(figure, *(places[path[-2]] if len(path) > 1 else (middle, top - 1)), x, y)
        _box(figure, x, y, 0.9, f"future head {offset}{note and f'<br>{note}'}", color_of(2))
        _arrow(figure, x, y, x, above)
        _arrow(figure, x, above, x, above + 0.85)
        ahead = "next token" if offset == 1 else f"{offset} tokens ahead"
        figure.add_annotation(
            x=x,
            y=above + 0.97,
            text=f"<b>x<sub>t+{offset}</sub></b><br>offset {offset}<br>{ahead}",
            showarrow=False,
            yanchor="bottom",
            font={"size": 13},
        )
    _box(figure, middle, above, max(half, width * n_future / 2 - 0.1), "norm and unembedding, shared", GREY)
    apply_style(figure, style)
    reach = max(half, width * n_future / 2) + 0.3
    figure.update_xaxes(visible=False, range=[middle - reach, middle + reach], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-0.5, above + 2.25], fixedrange=True)
    return figure.update_layout(
        height=int(64 * (above + 2.55)), margin={"l": 8, "r": 8, "t": 8, "b": 8}, dragmode=False, hovermode=False
    )


def _box(figure: go.Figure, x: float, y: float, half: float, text: str, color: str) -> None:
    figure.add_shape(
        type="rect",
        x0=x - half,
        x1=x + half,
        y0=y - BOX_HEIGHT / 2,
        y1=y + BOX_HEIGHT / 2,
        line={"color": color, "width": 1.6},
        fillcolor=see_through(color, 0.18),
    )
    figure.add_annotation(x=x, y=y, text=text, showarrow=False, font={"size": 13})


def _arrow(figure: go.Figure, x_from: float, y_from: float, x_to: float, y_to: float) -> None:
    """An arrow from the top of one box to the bottom of another."""
    figure.add_annotation(
        x=x_to,
        y=y_to - BOX_HEIGHT / 2,
        ax=x_from,
        ay=y_from + BOX_HEIGHT / 2,
        axref="x",
        ayref="y",
        text="",
        showarrow=True,
        arrowhead=2,
        arrowwidth=1.4,
        arrowcolor=GREY,
    )
