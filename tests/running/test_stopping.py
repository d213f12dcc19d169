"""Signals: at once where nothing would be lost, noted in `deferred`, and the second one ends the process."""

import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from playground.running.stopping import Interrupted, Stopping, catching_signals, deferred

REASONS = {
    signal.SIGINT: "stopped by Ctrl-C",
    signal.SIGTERM: "stopped by SIGTERM",
    signal.SIGHUP: "stopped by SIGHUP",
}


@pytest.fixture(autouse=True)
def default_signals():
    """What a program starts with, however these tests were started."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in REASONS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "reason"), REASONS.items())
def test_a_signal_acts_at_once(number, reason):
    with pytest.raises(Interrupted, match=reason) as raised, catching_signals() as stopping:
        signal.raise_signal(number)
    assert (raised.value.number, stopping.number, stopping()) == (number, number, reason)
    assert isinstance(raised.value, KeyboardInterrupt)


@pytest.mark.parametrize(("number", "reason"), REASONS.items())
def test_a_signal_is_noted_where_work_would_be_lost(number, reason):
    with catching_signals() as stopping:
        assert (stopping(), stopping.number) == ("", 0)
        with deferred():
            with deferred():
                signal.raise_signal(number)
            assert (stopping(), stopping.number) == (reason, number)
        with deferred():  # as in the next group of trainings
            assert stopping() == reason


def test_what_waits_is_interrupted():
    """A pipe that nothing is ever written to, as a stories file can be."""
    end, other = os.pipe()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted), catching_signals():
        os.read(end, 1)
    os.close(end)
    os.close(other)


@pytest.mark.parametrize("reason", ["", "the disk is full"])
def test_what_python_swallows_is_raised_again(reason, capfd):
    """A signal may come while a finalizer or the callback of a weak reference runs, where no exception gets out."""

    class Last:
        def __init__(self, stopping):
            self.stopping = stopping

        def __del__(self):
            if reason:
                self.stopping.request(reason)
            else:
                signal.raise_signal(signal.SIGINT)

    def wait():
        with catching_signals() as stopping:
            last = Last(stopping)
            del last
            threading.Event().wait(30)

    with pytest.raises(Interrupted, match=reason or "stopped by Ctrl-C"):
        wait()
    assert not capfd.readouterr().err


def test_other_errors_that_python_swallows_are_shown(capfd):
    class Last:
        def __del__(self):
            raise ValueError("of its own")

    before = sys.unraisablehook
    with catching_signals():
        last = Last()
        del last
    assert "ValueError: of its own" in capfd.readouterr().err and sys.unraisablehook is before


def test_nested_blocks_are_one_and_handlers_come_back():
    mine = signal.signal(signal.SIGTERM, lambda *_: None)
    before = {number: signal.getsignal(number) for number in REASONS}
    with catching_signals() as outer:
        with catching_signals() as inner:
            assert inner is outer
        assert signal.getsignal(signal.SIGTERM) == outer.receive
    assert {number: signal.getsignal(number) for number in REASONS} == before
    signal.signal(signal.SIGTERM, mine)
    with catching_signals() as later:
        assert later is not outer and not later()


def test_a_hangup_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with catching_signals() as stopping:
        signal.raise_signal(signal.SIGHUP)
        assert stopping() == "" and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_other_threads_catch_nothing_and_do_no_harm():
    found: list[str] = []

    def work() -> None:
        with catching_signals() as stopping, deferred():
            found.append(stopping())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [""]


def test_without_a_command_line_nothing_is_deferred():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt), deferred():
        signal.raise_signal(signal.SIGINT)


def test_a_request_of_another_thread_counts_once():
    def ask(stopping: Stopping, reason: str) -> None:
        thread = threading.Thread(target=stopping.request, args=(reason,))
        thread.start()
        thread.join()

    with catching_signals() as stopping, deferred():
        ask(stopping, "the parent has ended")
        assert stopping() == "the parent has ended" and stopping.number == signal.SIGTERM
    with catching_signals() as stopping, deferred():
        signal.raise_signal(signal.SIGINT)
        ask(stopping, "the parent has ended")  # which must not count as a second signal
        assert stopping() == "stopped by Ctrl-C"
    with pytest.raises(Interrupted, match="enough"), catching_signals() as stopping:
        ask(stopping, "enough")
    ask(stopping, "too late")


SECOND = """
import signal, sys
from playground.running.stopping import catching_signals, deferred
with catching_signals(), deferred():
    signal.raise_signal(int(sys.argv[1]))
    signal.raise_signal(int(sys.argv[2]))
    print("not here")
"""


@pytest.mark.parametrize("number", REASONS)
def test_a_second_signal_ends_the_process(number):
    numbers = [str(int(one)) for one in (signal.SIGINT, number)]
    done = subprocess.run([sys.executable, "-c", SECOND, *numbers], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (-number, b"", b"")


HANGUP = """
import os, sys, time
from playground.running.stopping import catching_signals, deferred
with catching_signals() as stopping, deferred():
    print("ready", flush=True)
    while not stopping():
        time.sleep(0.01)
    print("to a closed terminal", flush=True)
    sys.stderr.write("to a closed terminal")
open(sys.argv[1], "w").write(stopping())
"""


def test_a_closed_terminal_is_a_reason_to_stop_and_no_error(tmp_path: Path):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", HANGUP, str(tmp_path / "said")])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    process = psutil.Process(pid)
    assert process.wait(timeout=10) == 0
    assert (tmp_path / "said").read_text() == "stopped by SIGHUP"


IMPORTING = """
import sys
from playground.running.stopping import catching_signals
with catching_signals():
    try:
        import {module}
    except BaseException:
        print("swallowed")
"""


def test_while_a_library_loads_a_signal_ends_the_process(tmp_path: Path):
    """An exception in there may be swallowed, and aborts the process where the library is in C++."""
    (tmp_path / "a_library.py").write_text("import signal, time\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(60)\n")
    program = IMPORTING.format(module="a_library")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, b"", b"stopped by SIGTERM\n")
