"""Long library calls that do not handle signals, run in another thread so that the main thread can handle them."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

PATIENCE = 0.05
"""Seconds for which the calling thread waits between checks for signals."""

ResultT = TypeVar("ResultT")


def interruptible(function: Callable[[], ResultT]) -> ResultT:
    """Call `function` in a separate thread; returns or raises what it returns or raises.

    Ctrl-C, and exceptions of signal handlers, are raised here at once; the call itself continues in its daemon thread until it
    ends or the process ends. Outside of the main thread, which alone receives signals, this is a plain call.
    """
    if threading.current_thread() is not threading.main_thread():
        return function()
    outcome: Future[ResultT] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001  (raised again by the waiting thread)
            outcome.set_exception(error)

    thread = threading.Thread(target=work, name="interruptible", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(PATIENCE)
    return outcome.result()
