"""Places a figure on a page, with its downloads."""

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

from playground.figures.style import ImageFormat, Style, chart_config
from playground.ui.shared.text import file_name


@dataclass(frozen=True, kw_only=True)
class Look:
    """Style of figures on the page, and format of saved images."""

    style: Style = "screen"
    image_format: ImageFormat = "png"


def choose_look() -> Look:
    """Two switches that apply to all figures of a page."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        image = st.segmented_control(
            "Camera button saves",
            ["PNG", "SVG"],
            default="PNG",
            required=True,
            key="image_format",
            persist_state="session",
            help="The camera appears at the top right of a figure when the pointer is on it.",
        )
        paper = st.toggle(
            "White background",
            key="paper",
            persist_state="session",
            help="Black on white, for a figure that goes into a document.",
        )
    return Look(style="paper" if paper else "screen", image_format="svg" if image == "SVG" else "png")


def chart(
    figure: go.Figure, name: str, *, look: Look | None = None, alt: str | None = None, width: int | None = None
) -> None:
    """Draw a figure; `name` is its key on the page and the name of its files. `width` in pixels; None: the full width."""
    look = look or Look()
    theme = "streamlit" if look.style == "screen" else None
    config = chart_config(file_name(name), look.image_format)
    st.plotly_chart(figure, width=width or "stretch", theme=theme, key=name, config=config, alt=alt)


def html_download(build: Callable[[], go.Figure], name: str) -> None:
    """A button that saves the figure as one HTML file, which opens without a network. The file is made on pressing it."""

    def contents() -> str:
        return build().to_html(include_plotlyjs=True, auto_play=False)

    st.download_button(
        "Save as HTML",
        contents,
        f"{file_name(name)}.html",
        "text/html",
        key=f"{name}-html",
        on_click="ignore",
        type="tertiary",
        help="An interactive file that opens in any browser, without a network.",
    )
