"""Long calls into libraries that look at no signal, kept apart from the thread that has to answer to them."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

PATIENCE = 0.05
"""Seconds for which the calling thread waits before it looks at signals."""

ResultT = TypeVar("ResultT")


def interruptible(function: Callable[[], ResultT]) -> ResultT:
    """What `function` returns or raises, called in a thread of its own.

    Ctrl-C, and what a signal's handler raises, is so raised here at once, while the call itself goes on unseen until it ends
    or the process does. From another thread than the main one it is a plain call, which no signal would reach anyway.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    outcome: Future[ResultT] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001  (raised again by the thread that waits)
            outcome.set_exception(error)

    thread = threading.Thread(target=work, name="interruptible", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PATIENCE)
    return outcome.result()
