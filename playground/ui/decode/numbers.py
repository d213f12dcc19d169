"""Forwards and time that speculative decoding saved on this prompt, with explanations, and acceptance by offset."""

from collections.abc import Sequence

import streamlit as st

from playground.figures.decoding_acceptance import RunAcceptance, acceptance_figure
from playground.results import DecodingSpeed
from playground.ui.decode.view import Written, drafts_title
from playground.ui.shared.charts import chart, choose_look, html_download
from playground.ui.shared.text import plain
from playground.ui.shared.words import plural

FACT = 200
"""Width in pixels of one number: four fit side by side on a wide page, two on a narrow one."""


def numbers_view(written: Sequence[Written]) -> None:
    """All counts and times, for the models that draft."""
    measured = [(one, speed) for one in written if (speed := one.decoded.speed) is not None]
    if not measured:
        return
    st.subheader("Forwards and time saved", anchor=False)
    for one, speed in measured:
        _numbers(one, speed)
    st.caption(_timing(measured[0][1]))
    st.subheader("Which drafts were accepted", anchor=False)
    shown = [
        RunAcceptance(
            title=one.item.title,
            drafts=drafts_title(one.config),
            acceptance=speed.acceptance,
            marginal=speed.marginal,
            d_vocab=one.item.loaded.task.d_vocab,
        )
        for one, speed in measured
    ]
    st.caption(
        "Bars: of the forwards in which all drafts before were accepted, the share in which the draft of offset k was too; "
        "whiskers are 95% intervals, assuming independent forwards. Diamonds: the share of positions of the plain greedy text "
        "at which the likeliest token of offset k is the token in the text, whatever came before. 1 is ideal. One prompt is a "
        "small sample: `python -m playground generate RUN --benchmark` measures many."
    )
    above = st.container()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        look = choose_look()
        figure = acceptance_figure(shown, style=look.style)
        html_download(lambda: figure, "acceptance")
    with above:
        chart(figure, "acceptance", look=look, alt="Share of drafts that were accepted, by offset")


def _numbers(written: Written, speed: DecodingSpeed) -> None:
    with st.container(border=True):
        st.markdown(f"**{plain(written.item.title)}**: speculative, {drafts_title(written.config)}")
        row = st.container(horizontal=True, gap="medium")
        for name, value, meaning in facts(speed):
            with row.container(width=FACT, gap="small"):
                st.metric(name, value)
                st.caption(meaning)
        if speed.speedup < 1:
            st.caption(slower(speed))


def facts(speed: DecodingSpeed) -> list[tuple[str, str, str]]:
    """Name, value and definition of each number."""
    low, high = speed.spread
    relative = speed.speculative_seconds_per_forward / speed.plain_seconds_per_forward
    repeats = len(speed.plain_seconds)
    spread = f"{low:.2f} to {high:.2f} in {plural(repeats, 'repeat')}" if repeats > 1 else "timed once"
    return [
        (
            "Forwards",
            f"{speed.speculative_forwards}",
            f"Runs of the model after the prefill. Plain decoding: {speed.plain_forwards}.",
        ),
        (
            "Tokens per forward",
            f"{speed.tokens_per_forward:.2f}",
            f"Tokens written over forwards. Plain decoding: 1; at most K = {speed.speculative}.",
        ),
        (
            "Speed-up by parts",
            f"{speed.speedup_by_parts:.2f}×",
            f"Tokens per forward over the cost of a forward: {plural(speed.nodes, 'token')} at once took {relative:.2f} times "
            "as long as one. It decomposes the measured speed-up and does not predict it.",
        ),
        (
            "Measured speed-up",
            f"{speed.speedup:.2f}×",
            f"Seconds of plain over seconds of speculative decoding, after the prefill; {spread}. 1 is no gain.",
        ),
    ]


def slower(speed: DecodingSpeed) -> str:
    """Explains why fewer forwards did not save time."""
    relative = speed.speculative_seconds_per_forward / speed.plain_seconds_per_forward
    return (
        f"Fewer forwards, and still slower here: a forward that verifies and drafts takes {relative:.1f} times as long, and "
        f"writes {speed.tokens_per_forward:.2f} tokens. Large models spend most of a forward on reading their weights, so a "
        "few tokens cost them about as much as one."
    )


def _timing(speed: DecodingSpeed) -> str:
    how = "with a cache" if speed.cached else "without a cache, because this run's attention is clamped"
    return (
        f"Measured on {plain(speed.device)}, {plain(speed.dtype)}, {how}, one prompt at a time, plain and speculative decoding "
        "in alternation. Other programs on this machine change the times, but not the counts."
    )
