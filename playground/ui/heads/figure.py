"""A figure on the Heads page; its switches and download are below it, so that they do not push it down."""

from collections.abc import Callable

import plotly.graph_objects as go
import streamlit as st

from playground.figures.style import Style
from playground.ui.shared.charts import Look, chart, choose_look, html_download


def place_figure(build: Callable[[Style], go.Figure], name: str) -> Look:
    """Draw what `build` makes for the chosen look; returns the look, for further figures of the view."""
    above = st.container()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        look = choose_look()
        figure = build(look.style)
        html_download(lambda: figure, name)
    with above:
        chart(figure, name, look=look)
    return look
