"""Long calls that signals end at once."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from tasks.interruptible import interruptible

CHILD = """
import random, signal, sys, time

class Stop(Exception):
    pass

def handler(number, frame):
    raise Stop

signal.signal(signal.SIGTERM, handler)
from tasks.story_tokens import encode_stories, train_tokenizer

stories = ["".join(random.Random(0).choices("abcdefghij", k=10_000_000))]
tokenizer = train_tokenizer(["some words"] * 100, 300)
print("begins", flush=True)
try:
    train_tokenizer(stories, 60_000) if sys.argv[1] == "train" else encode_stories(tokenizer, stories * 5)
except (Stop, KeyboardInterrupt) as error:
    print(type(error).__name__, flush=True)
    sys.exit(3)
print("ended", flush=True)
"""


def test_results_and_errors_are_passed_on():
    assert interruptible(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        interruptible(_interrupt)


def test_other_threads_may_call_it():
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(interruptible(lambda: 4)))
    thread.start()
    thread.join(10)
    assert found == [4]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent in another way there")
@pytest.mark.parametrize(
    ("work", "number", "raised"), [("train", signal.SIGTERM, "Stop"), ("encode", signal.SIGINT, "KeyboardInterrupt")]
)
def test_a_signal_ends_the_training_of_a_tokenizer_at_once(work: str, number: signal.Signals, raised: str):
    child = subprocess.Popen([sys.executable, "-c", CHILD, work], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "begins\n"
        time.sleep(0.5)
        sent = time.monotonic()
        child.send_signal(number)
        assert child.stdout.readline() == f"{raised}\n"
        assert time.monotonic() - sent < 2
        assert child.wait(timeout=60) == 3
    finally:
        child.kill()


def _interrupt() -> None:
    raise KeyboardInterrupt
