"""The last line of defence: an error that nobody expected becomes a sentence on the page and a traceback on the server."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec

import streamlit as st

from playground.ui.shared.text import plain

P = ParamSpec("P")
logger = logging.getLogger("playground.ui")


def guarded(function: Callable[P, object]) -> Callable[P, None]:
    """Wrap what draws a page, or a fragment of one. Streamlit's own stops and reruns pass through."""

    @functools.wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            logger.exception("a page failed")
            st.error(f"This part of the page could not be drawn. {_hint(error)}", icon=":material/error:")
            st.caption(f"{plain(type(error).__name__)}: {plain(error)} (the terminal that runs the app shows where)")

    return draw


def _hint(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "The app may not read or write a file in the runs folder; its permissions need a look."
    if isinstance(error, OSError):
        return "A file could not be read or written: is the disk full, or was a run removed just now? Reload the page."
    if isinstance(error, ImportError):
        return "A library is missing; `make app` installs all of them."
    return "Reload the page; if it comes back, choose other runs or settings. Stored runs are not touched by this."
