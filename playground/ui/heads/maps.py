"""Heads, second view: heat-maps of all heads, the difference of two runs, and a slider through training."""

from collections.abc import Callable, Hashable
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from playground.figures.head_difference import Pairing
from playground.figures.heads import heads_figure
from playground.figures.style import Style
from playground.results import score_title
from playground.runs.probes import probe_file
from playground.text import visible
from playground.ui.heads.figure import place_figure
from playground.ui.heads.stored import RowSource, RunsOnPage, choose_rows, histories_of, score_names
from playground.ui.shared.text import MOST

MOST_SCORES = 2
DEFAULT_SCORES = ("prefix_matching", "previous_token")
PAIRINGS: dict[Pairing, str] = {"rank": "by rank", "number": "by number"}
PAIRING_HELP = (
    "The initial weights decide which head takes which role, so head 2 of one run and head 2 of another are unrelated. "
    "**by rank**: within each layer the strongest with the strongest. **by number**: for two runs that began with the same "
    "weights."
)


def maps_view(shown: RunsOnPage) -> None:
    """Heat-maps of all heads of each run, and of their difference."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        place = st.empty()
        rows = choose_rows(shown)
        pairs = st.empty()
    histories = histories_of(shown, rows)
    if not histories:
        return
    names = score_names(list(histories.values()))
    scores = place.multiselect(
        "Scores",
        names,
        default=DEFAULT_SCORES,
        max_selections=MOST_SCORES,
        width=320,
        format_func=lambda name: visible(score_title(name), MOST),
        key="scores",
        persist_state="session",
    )
    pairing: Pairing | None = None
    if len(histories) == 2:
        pairing = pairs.segmented_control(
            "Difference pairs heads",
            list(PAIRINGS),
            default="rank",
            required=True,
            format_func=PAIRINGS.__getitem__,
            key="pairing",
            persist_state="session",
            help=PAIRING_HELP,
        )
    st.caption(
        "Press Play, or pull the slider. Colour: score from 0 to 1, which an ideal head reaches. A number is shown if a head "
        "exceeds its own null band, the 99th percentile of its score when the targets are moved to wrong positions. "
        "Tokens flow upwards: the trunk (T), which all offsets share, and above the grey line one layer for each future "
        "head (F); future head k predicts offset k, the k-th token ahead. The row of a layer that a run does not have is "
        "blank."
    )
    titled = {shown.title(run): histories[run.id] for run in shown.runs if run.id in histories}
    chosen = tuple(name for name in scores if name in names) or DEFAULT_SCORES
    files = tuple(_version(run.path, rows) for run in shown.runs if run.id in histories)

    def build(style: Style) -> go.Figure:
        version = (tuple(titled), files, rows, chosen, pairing, style)
        return _kept(version, lambda: heads_figure(titled, scores=chosen, difference=pairing, style=style))

    place_figure(build, "heads")
    if pairing is not None:
        st.caption(
            "Difference: the lower run minus the upper one, orange where the lower is stronger, and only for layers that both "
            "have: trunk layers are matched from the bottom, future heads by their offset. If one run has fewer trunk "
            "layers, the function of a layer in one run may be in the next layer of the other."
        )


def _kept(version: Hashable, build: Callable[[], go.Figure]) -> go.Figure:
    """The figure of the last rerun, unless its content has changed: building its many frames takes long.

    In the session, which shows one: a cache for all sessions would keep large figures that nobody looks at any more.
    """
    kept = st.session_state.get("heads-figure")
    if kept is None or kept[0] != version:
        kept = st.session_state["heads-figure"] = (version, build())
    return kept[1]


def _version(path: Path, rows: RowSource) -> tuple[Path, int, int]:
    status = probe_file(path, rows).stat()
    return path, status.st_mtime_ns, status.st_size
