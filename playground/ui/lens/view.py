"""Heat-map of one row read after every layer, for each of the chosen models, with its controls."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from playground.figures.lens import COLOR_TITLES, ColorBy, Reading, lens_figure
from playground.figures.text import plain as figure_text
from playground.ui.lens.data import TokenRow, Way, read_row, row_of_test_set, typed_row
from playground.ui.shared.charts import Look, chart, html_download
from playground.ui.shared.guard import guarded
from playground.ui.shared.models import Loaded
from playground.ui.shared.text import plain
from playground.ui.shared.words import plural

WAYS: dict[Way, str] = {"through": "Through future head", "direct": "Directly"}
COLORS: dict[ColorBy, str] = {"top": "Likeliest token", "true": "Token that comes", "right": "Right or wrong"}
SOURCES = ("Test set", "Own text")
MOST_ROWS = 64
"""Number of test rows to choose from."""
WINDOW, BEFORE = 20, 6
"""Positions shown at first, and how many of them come before the first scored one."""
TYPED = 48
"""Tokens of the test set in the text box at first, as an example."""


@dataclass(frozen=True, kw_only=True)
class ModelOnPage:
    """A model on the page."""

    title: str
    n_future: int
    loaded: Loaded


def lens_view(shown: Sequence[ModelOnPage], look: Look) -> None:
    """Choose an offset, a way of reading and a row; draws the predictions of every layer."""

    # Its controls rerun the fragment alone, outside the page's own guard; so the fragment needs a guard too.
    @st.fragment
    @guarded
    def draw() -> None:
        _draw(shown, look)

    draw()


def _draw(shown: Sequence[ModelOnPage], look: Look) -> None:
    offset, way, color_by = _choose_reading(max(item.n_future for item in shown))
    rows = _choose_row(shown)
    drawn = [(item, row) for item, row in zip(shown, rows, strict=True) if item.n_future >= offset]
    _say_what_is_missing(shown, offset)
    if not drawn or any(row is None for row in rows):
        return
    readings = [
        read_row(item.loaded, row, offset=offset, way=way, title=_title(item, offset, way))
        for item, row in drawn
        if row is not None
    ]
    window = _choose_window([row for _, row in drawn if row is not None])
    st.caption(_caption(readings[0], way, shown[0].loaded.task.d_vocab))
    figure = lens_figure(readings, color_by=color_by, window=window, style=look.style)
    chart(figure, "lens", look=look, alt="What every layer would predict at every position")
    html_download(lambda: figure, "lens")


def _choose_reading(most: int) -> tuple[int, Way, ColorBy]:
    place = st.container(horizontal=True, gap="medium")
    offset = place.segmented_control(
        "Offset k",
        range(1, most + 1),
        default=1,
        required=True,
        key="lens-offset",
        persist_state="session",
        help="Which token is predicted: the k-th after the one that the model is at.",
    )
    ways: list[Way] = list(WAYS)
    way: Way = place.segmented_control(
        "Read after each layer",
        ways,
        default=ways[0],
        format_func=WAYS.__getitem__,
        required=True,
        key="lens-way",
        persist_state="session",
        help=(
            "Through future head k, as if the trunk ended at this layer: after the last layer this is the model's own "
            "prediction. Directly: final norm and unembedding alone, the ordinary logit lens, which has one prediction "
            "for all offsets."
        ),
    )
    colors: list[ColorBy] = list(COLORS)
    color_by: ColorBy = place.segmented_control(
        "Colour",
        colors,
        default=colors[0],
        format_func=COLORS.__getitem__,
        required=True,
        key="lens-color",
        persist_state="session",
        help="; ".join(f"{COLORS[name]}: {COLOR_TITLES[name]}" for name in colors) + ".",
    )
    return offset or 1, way, color_by


def _choose_row(shown: Sequence[ModelOnPage]) -> list[TokenRow | None]:
    """The row of each model, encoded by its own task: tasks with equal names may be configured differently."""
    place = st.container(horizontal=True, gap="medium")
    source = place.segmented_control(
        "Tokens from", SOURCES, default=SOURCES[0], required=True, key="lens-source", persist_state="session"
    )
    task = shown[0].loaded.task
    rows: list[TokenRow | None]
    if source == SOURCES[1]:
        text = st.text_area(
            "Text",
            task.decode(row_of_test_set(task, 0).tokens[:TYPED]),
            key=f"lens-text-{task.config.name}",
            height=68,
            persist_state="session",
            help="Write it as this task writes its tokens; start from the example. Nothing in it is scored.",
        )
        rows = [_typed(item, text) for item in shown]
    else:
        number = place.number_input(
            "Row of the test set", 0, MOST_ROWS - 1, 0, key="lens-row", persist_state="session", width=200
        )
        rows = [row_of_test_set(item.loaded.task, int(number)) for item in shown]
    if len({row.tokens for row in rows if row is not None}) > 1:
        st.info(
            "The tasks of these two runs are configured differently, so each run reads a row of its own.",
            icon=":material/info:",
        )
    return rows


def _typed(item: ModelOnPage, text: str) -> TokenRow | None:
    try:
        row = typed_row(item.loaded.task, text)
    except ValueError as error:
        st.warning(f"This text cannot be read: {plain(error)}", icon=":material/edit:")
        return None
    if row.cut:
        st.info(
            f"The model takes {plural(len(row.tokens), 'token')} at a time; the last {row.cut} of the text are left out.",
            icon=":material/info:",
        )
    return row


def _say_what_is_missing(shown: Sequence[ModelOnPage], offset: int) -> None:
    for item in shown:
        if item.n_future < offset:
            heads = "future head 1" if item.n_future == 1 else f"future heads 1 to {item.n_future}"
            st.info(
                f"{plain(item.title)} has {heads} only, so it is not shown at offset {offset}; offset 1 shows both models.",
                icon=":material/info:",
            )


def _choose_window(rows: Sequence[TokenRow]) -> tuple[int, int]:
    """All positions of a short row; of a long one by default those around the first scored position, or the last ones."""
    length = max(len(row.tokens) for row in rows)
    if length <= WINDOW + 4:
        return 0, length
    start = min(max(0, min(row.first_scored for row in rows) - BEFORE), length - WINDOW)
    key = f"lens-window-{start}-{length}"
    first, last = st.slider("Positions", 0, length - 1, (start, start + WINDOW - 1), key=key)
    return first, last + 1


def _title(item: ModelOnPage, offset: int, way: Way) -> str:
    through = f"through future head {offset}" if way == "through" else "directly"
    return f"<b>{figure_text(item.title)}</b><br>offset {offset}, read {through}"


def _caption(reading: Reading, way: Way, d_vocab: int) -> str:
    what = "the next token" if reading.offset == 1 else f"the token {reading.offset} ahead"
    if way == "through":
        how = (
            f"Each row of cells is what the model would predict as {what} if its trunk ended there; the top row is what "
            "it really predicts. "
        )
    else:
        how = (
            "Each row of cells is the residual stream after a layer, turned into a prediction directly; the top row, "
            f"after future head {reading.offset}, is what the model really predicts as {what}. "
        )
    marks = "A dot marks where the likeliest token is the one that comes, an orange triangle what the task scores. "
    return f"{how}{marks}An ideal model reaches 1 where something earlier decides the token; a uniform guess {1 / d_vocab:.2g}."
