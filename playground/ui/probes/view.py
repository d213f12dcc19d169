"""The figure and the table of one probe on the Probes page."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from playground.figures.rows import columns_of, is_map, rows_along_figure, rows_figure
from playground.figures.style import Style
from playground.probes.catalogue import Listed
from playground.results import History, Result, Row
from playground.text import visible
from playground.ui.probes.measuring import AtStep
from playground.ui.shared.charts import chart, choose_look, html_download
from playground.ui.shared.text import MOST, file_name, plain

LINKS = {
    "heads": ("playground/ui/heads/heads.py", "More on the page Heads: formation, attention at work, graphs, ablation"),
    "lens": ("playground/ui/lens/lens.py", "More on the page Lens: the predictions after each layer, token by token"),
}
MORE = {
    "attention": "heads",
    "task_attention": "heads",
    "composition": "heads",
    "ablation": "heads",
    "direct_ablation": "heads",
    "knockout": "heads",
    "lens": "lens",
}
"""The page that shows more of a probe."""


def step_view(probe: Listed, shown: Mapping[str, AtStep]) -> None:
    """The figure of each run at its step, by title, then the numbers."""
    results = {title: item.result for title, item in shown.items()}
    rows = [row for result in results.values() for row in result.rows()]
    if not rows:
        st.info("The probe found nothing to measure in these models.", icon=":material/info:")
        return
    own, value = probe.figure, ""
    if own is None and is_map(rows):
        value = _choose_value([next(iter(results.values()))], key="probe-value")
    st.caption(_caption(own, probe.result, "Numbers in cells exceed their null band, where there is one."))

    def build(style: Style) -> go.Figure:
        return own(results, style) if own is not None else rows_figure(results, value=value, style=style)

    _place(build, probe)
    for title, result in results.items():
        if result.note:
            st.caption(f"{plain(title)}: {plain(result.note)}.")
    _table(probe, {(item.run.id, item.step): item.result for item in shown.values()})


def along_view(probe: Listed, histories: Mapping[str, tuple[str, History[Result]]]) -> None:
    """Lines of each run over the tokens of its training, then the numbers; by title the run's id and its history."""
    drawn = {title: history for title, (_, history) in histories.items()}
    value = _choose_value([history.results[-1] for history in drawn.values()], key="probe-value-along")
    own = probe.figure_along
    st.caption(
        _caption(own, probe.result, "A line is one row of the table; of many the largest last values are drawn.")
    )

    def build(style: Style) -> go.Figure:
        return own(drawn, value, style) if own is not None else rows_along_figure(drawn, value, style=style)

    _place(build, probe)
    each = {
        (run_id, step): result
        for run_id, history in histories.values()
        for step, result in zip(history.steps, history.results, strict=True)
    }
    _table(probe, each)


def more_of(probe: Listed) -> None:
    """A link to the page that shows more of this probe, if there is one."""
    if probe.name in MORE:
        page, label = LINKS[MORE[probe.name]]
        st.page_link(page, label=label, icon=":material/arrow_forward:")


def _choose_value(results: Sequence[Result], key: str) -> str:
    """The column of the rows that is drawn; by default the one that tables are sorted by."""
    values = list(columns_of(results[0].rows()).values)
    if len(values) < 2:
        return values[0] if values else ""
    usual = results[0].sort_by
    index = values.index(usual) if usual in values else 0
    chosen = st.selectbox(
        "Number", values, index=index, format_func=lambda name: visible(name, MOST), key=key, width=260
    )
    return chosen or values[index]


def _caption(figure: Callable[..., Any] | None, result: type[Result], default: str) -> str:
    """What a figure shows, from its docstring; for a figure made from rows, what the result is, from its docstring."""
    first = (inspect.getdoc(figure if figure is not None else result) or "").partition("\n\n")[0].replace("\n", " ")
    return plain(first if figure is not None else f"{first} {default}", 1000)


def _place(build: Callable[[Style], go.Figure], probe: Listed) -> None:
    """The figure, and below it its switches and download."""
    name = f"probe-{probe.name}"
    above = st.container()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        look = choose_look()
        figure = build(look.style)
        html_download(lambda: figure, name)
    with above:
        chart(figure, name, look=look, alt=probe.summary)


def _table(probe: Listed, results: Mapping[tuple[str, int], Result]) -> None:
    """The rows of all results, with run and step, and their download."""
    rows: list[Row] = [
        {"run": run, "step": step} | row for (run, step), result in results.items() for row in result.rows()
    ]
    table = pd.DataFrame(rows)
    with st.expander(f"The numbers ({len(table):,} rows)", icon=":material/table_rows:"):
        shown = table.map(lambda cell: visible(cell, MOST) if isinstance(cell, str) else cell)
        st.dataframe(shown, hide_index=True, key="probe-table")
    ids = "-".join(dict.fromkeys(run for run, _ in results))
    st.download_button(
        "Save as CSV",
        lambda: table.to_csv(index=False),
        f"{file_name(f'{probe.name}-{ids}')}.csv",
        "text/csv",
        key="probe-csv",
        on_click="ignore",
        type="tertiary",
    )
