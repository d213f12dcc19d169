"""Ctrl-C, SIGTERM and SIGHUP: at once where nothing would be lost, after a checkpoint while training steps run.

A first signal raises Interrupted, or ends the process while a library is loaded; inside `deferred()` it is noted instead, for
the training loop to ask about (`should_stop`). A second one ends the process without waiting for anything. Needs no torch.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

NAMES: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
if hasattr(signal, "SIGHUP"):  # absent on Windows
    NAMES[signal.SIGHUP] = "SIGHUP"


AGAIN = 0.02
"""Seconds after which a signal whose exception was swallowed is sent again."""


class Interrupted(KeyboardInterrupt):
    """A signal came while nothing would be lost: the work ends here. Says which signal, and why."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


class Stopping:
    """Whether this process was asked to stop, and why. A `should_stop` for trainings."""

    def __init__(self) -> None:
        self.number = 0
        """The signal that came; 0 for none."""
        self.reason = ""
        self._deferred = 0
        self._request = ""

    def __call__(self) -> str:
        return self.reason

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """In here a signal is noted and raises nothing."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def request(self, reason: str) -> None:
        """Ask this process to stop, from another thread. After a signal has come it changes nothing."""
        if _CURRENT and _CURRENT[0] is self:
            self._request = reason
            os.kill(os.getpid(), signal.SIGTERM)  # interrupts what the main thread waits for

    def swallowed(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """A `sys.unraisablehook`: an Interrupted that Python swallowed, as in a finalizer or a weak reference, is raised again.

        It is raised again a moment later, by another thread: raised in here it would be swallowed as well.
        """
        if not isinstance(unraisable.exc_value, Interrupted):
            sys.__unraisablehook__(unraisable)
            return
        number, reason = self.number, self.reason
        self.number, self.reason = 0, ""
        self._request = "" if reason == f"stopped by {NAMES[number]}" else reason
        again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        requested, self._request = self._request, ""
        if number == getattr(signal, "SIGHUP", None):
            _leave_closed_terminal()
        if self.reason:  # a second signal
            if not requested:
                end_at_once(number)
            return
        self.number, self.reason = number, requested or f"stopped by {NAMES[number]}"
        if self._deferred:
            return
        if _is_importing(frame):
            os.write(2, f"{self.reason}\n".encode())
            end_at_once(number)
        raise Interrupted(number, self.reason)


_CURRENT: list[Stopping] = []


@contextlib.contextmanager
def catching_signals() -> Iterator[Stopping]:
    """Signals to this process reach the yielded object in here. Inside another such block it is the same object.

    A SIGHUP that is ignored (nohup) stays ignored. Only a main thread can catch signals; elsewhere none reaches the object.
    """
    if _CURRENT or threading.current_thread() is not threading.main_thread():
        yield _CURRENT[0] if _CURRENT else Stopping()
        return
    stopping = Stopping()
    before: dict[int, Any] = {}
    hook = sys.unraisablehook
    _CURRENT.append(stopping)
    sys.unraisablehook = stopping.swallowed
    try:
        for number in NAMES:
            if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stopping.receive)
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        _CURRENT.clear()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Signals are noted in here, not raised: work that would be lost. Without `catching_signals` it changes nothing."""
    with _CURRENT[0].deferred() if _CURRENT else contextlib.nullcontext():
        yield


def end_at_once(number: int) -> None:
    """End this process by a signal, as if nothing caught it."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded: an exception in there may be swallowed, and in C++ libraries it aborts the process."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _leave_closed_terminal() -> None:
    """Let output go nowhere where its terminal was closed: writing there raises an error, which would fail the training."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
