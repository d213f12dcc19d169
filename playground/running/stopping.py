"""Handling of Ctrl-C, SIGTERM and SIGHUP: stop at once if nothing would be lost, after a checkpoint during training steps.

The first signal raises Interrupted, or ends the process if a module is being imported. Inside `deferred()` it is only recorded;
the training loop polls it (`should_stop`). A second signal ends the process immediately. Needs no torch.
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
    """Raised by a signal outside of `deferred()`; `number` is the signal, the text is the reason."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number


class Stopping:
    """Stop request of this process. Calling it returns the reason, or "": it is the `should_stop` of trainings."""

    def __init__(self) -> None:
        self.number = 0
        """The signal received; 0 for none."""
        self.reason = ""
        self._deferred = 0
        self._request = ""

    def __call__(self) -> str:
        return self.reason

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside this block a signal is recorded and raises nothing."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def request(self, reason: str) -> None:
        """Stop this process with a reason, from another thread. No effect after a signal has been received."""
        if _CURRENT and _CURRENT[0] is self:
            self._request = reason
            os.kill(os.getpid(), signal.SIGTERM)  # interrupts blocking calls of the main thread

    def swallowed(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """A `sys.unraisablehook` that repeats an Interrupted which Python swallowed, as in a finalizer or a weakref callback.

        A timer thread sends the signal again a moment later: an exception raised in this hook would be swallowed as well.
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
        """The signal handler."""
        requested, self._request = self._request, ""
        if number == getattr(signal, "SIGHUP", None):
            _leave_closed_terminal()
        if self.reason:  # a second signal; `request` after a real signal is no reason to end without a checkpoint
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
    """Inside this block signals are handled by the yielded object. Nested blocks yield the object of the outermost one.

    A SIGHUP that is ignored (nohup) stays ignored. In a thread other than the main one, signals never reach the object.
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
    """Inside this block signals are recorded, not raised, so that no work is lost. No effect without `catching_signals`."""
    with _CURRENT[0].deferred() if _CURRENT else contextlib.nullcontext():
        yield


def end_at_once(number: int) -> None:
    """End this process by a signal with its default handler, so that the exit status shows the signal."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _is_importing(frame: FrameType | None) -> bool:
    """True during an import: an exception raised there may be swallowed, and in C++ libraries it aborts the process."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _leave_closed_terminal() -> None:
    """Redirect output to os.devnull if its terminal was closed: a write error would make the training fail."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
