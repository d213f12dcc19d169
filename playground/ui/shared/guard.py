"""Handler for unexpected errors: a sentence on the page and a traceback on the server, in place of a broken page."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec

import streamlit as st

from playground.ui.shared.text import plain

P = ParamSpec("P")
logger = logging.getLogger("playground.ui")


def guarded(function: Callable[P, object]) -> Callable[P, None]:
    """Wrap a function that draws a page or a fragment. Streamlit's own stop and rerun signals are no `Exception` and pass."""

    @functools.wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception as error:
            logger.exception("a page failed")
            st.error(f"This part of the page could not be drawn. {_hint(error)}", icon=":material/error:")
            st.caption(
                f"{plain(type(error).__name__)}: {plain(error)} (the traceback is in the terminal that runs the app)"
            )

    return draw


def _hint(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "The app may not read or write a file in the runs folder; check the permissions of the folder."
    if isinstance(error, OSError):
        return "A file could not be read or written: is the disk full, or was a run removed just now? Reload the page."
    if isinstance(error, ImportError):
        return "A library is missing; `make app` installs all of them."
    return "Reload the page; if the error persists, choose other runs or settings. Stored runs are not changed by this."
