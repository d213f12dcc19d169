"""Plain and speculative text side by side, with the player over their forwards, and a sentence on whether they agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

from playground.figures.decoding_script import CSS, SCRIPT
from playground.figures.decoding_text import WrittenText, decoding_data, decoding_html
from playground.generation.config import DecodingConfig
from playground.results import Decoding
from playground.ui.decode.choice import DecodingModel, Settings, config_for, room
from playground.ui.decode.data import Decoded, decode, reads_joined, token_strings
from playground.ui.shared.text import plain
from playground.ui.shared.words import plural

MOUNT = """
export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".dt-mount");
  drawDecoding(root, data);
  return () => clearInterval(root.decoding.timer);
}
"""
TIE = 1e-3
"""Two logits closer than this are a tie: the order of floating-point additions decides which is larger."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """The decoded prompt of one model."""

    item: DecodingModel
    config: DecodingConfig
    decoded: Decoded


def write_all(
    shown: Sequence[DecodingModel], prompts: Sequence[tuple[int, ...] | None], settings: Settings
) -> list[Written]:
    """Decode with every model that has a prompt; the page says why a model is left out."""
    found: list[Written] = []
    for item, prompt, new_tokens in _with_room(shown, prompts, settings):
        config = config_for(item, settings, new_tokens)
        with st.spinner("Decoding"):
            decoded = decode(item.loaded, prompt, config, seed=settings.seed, cached=item.cached)
        found.append(Written(item=item, config=config, decoded=decoded))
    return found


def _with_room(
    shown: Sequence[DecodingModel], prompts: Sequence[tuple[int, ...] | None], settings: Settings
) -> list[tuple[DecodingModel, tuple[int, ...], int]]:
    """The models whose context has room after their prompt, and for how many new tokens; the page explains missing room."""
    fits = [
        (item, prompt, room(item, prompt, settings))
        for item, prompt in zip(shown, prompts, strict=True)
        if prompt is not None
    ]
    short = {
        (item.loaded.model.n_ctx, len(prompt), new_tokens): None
        for item, prompt, new_tokens in fits
        if new_tokens < settings.new_tokens
    }
    for n_ctx, length, new_tokens in short:
        if new_tokens:
            st.caption(
                f"After this prompt of {plural(length, 'token')} a context of {n_ctx} has room for "
                f"{plural(new_tokens, 'new token')}; switch on the sliding context to continue beyond that."
            )
        else:
            st.warning(
                f"This prompt has {plural(length, 'token')}, and the model's context is {n_ctx}: shorten it, or switch on the "
                "sliding context, which keeps the end of the prompt.",
                icon=":material/edit:",
            )
    return [(item, prompt, new_tokens) for item, prompt, new_tokens in fits if new_tokens]


def text_view(written: Sequence[Written]) -> None:
    """A sentence for each model, the texts, and their forwards."""
    st.markdown("\n".join(f"- {verdict(one)}" for one in written))
    data = decoding_data([text for one in written for text in _texts(one)])
    _component(data)
    title = ", ".join(dict.fromkeys(one.item.title for one in written))
    st.download_button(
        "Save as HTML",
        lambda: decoding_html(data, title),
        "decoding.html",
        "text/html",
        key="decoding-html",
        on_click="ignore",
        type="tertiary",
        help="An interactive page like this one; it opens in any browser, without a network.",
    )


def verdict(written: Written) -> str:
    """Whether plain and speculative decoding agree, as one entry of a list."""
    title, found = plain(written.item.title), written.decoded
    alone = found.plain.decoded[0]
    if found.speculative is None:
        if written.item.n_future == 1:
            return (
                f"**{title}** predicts the next token only and has no future heads to draft with: this is plain decoding, one "
                "token per forward."
            )
        return f"**{title}**: plain decoding, one token per forward."
    row = found.speculative.decoded[0]
    saved = f"{plural(row.forwards, 'forward')} in place of {alone.forwards}"
    if written.config.rule == "typical":
        return (
            f"**{title}**: typical acceptance took {saved}. **Not exact**: drafts that are merely probable enough are accepted "
            "too, so the text does not have the distribution of plain decoding."
        )
    if not written.config.sampling.is_greedy:
        return (
            f"**{title}**: speculative decoding took {saved}. Both texts are drawn from the same distribution; they differ "
            "because plain and speculative decoding use random numbers differently."
        )
    if found.parts_at is None:
        same = plural(len(alone.tokens), "token")
        return f"**{title}**: plain and speculative decoding wrote **the same {same}**, the latter in {saved}."
    gap = found.gap if found.gap is not None else float("nan")
    why = "a tie that rounding decides" if gap < TIE else "more than rounding explains: please report this"
    return (
        f"**{title}**: the texts differ from new token {found.parts_at + 1} on, where the two likeliest tokens are {gap:.1g} "
        f"apart in logits: {why}. Speculative decoding took {saved}."
    )


def drafts_title(config: DecodingConfig) -> str:
    """The kind of drafts, in a title."""
    if config.tree is not None:
        return f"tree of {plural(len(config.tree.paths), 'draft')}"
    return f"K = {config.drafts.speculative}"


def _texts(written: Written) -> list[WrittenText]:
    """The texts of one model: plain, and speculative if it drafts."""
    found, task = written.decoded, written.item.loaded.task
    both = [found.plain, *([] if found.speculative is None else [found.speculative])]
    strings = token_strings(task, both)
    row = found.plain.decoded[0]
    spaced = not reads_joined(task, (*row.prompt, *row.tokens))

    def shown(decoding: Decoding, how: str) -> WrittenText:
        row = decoding.decoded[0]
        return WrittenText(
            title=f"{written.item.title}: {how}",
            row=row,
            speculative=decoding.speculative,
            strings=strings,
            spaced=spaced,
            drawn=not written.config.sampling.is_greedy,
        )

    names = ("plain", f"speculative, {drafts_title(written.config)}")
    return [shown(decoding, how) for decoding, how in zip(both, names, strict=False)]


def _component(data: dict[str, Any]) -> None:
    mount = component("playground.decoding", html='<div class="dt-mount"></div>', css=CSS, js=SCRIPT + MOUNT)
    mount(data=data, key="decoding")
