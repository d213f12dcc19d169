"""Compare: what stands below the figures and the verdict on what the runs can and cannot show."""

from pathlib import Path

import pytest

from tests.fake_runs import write_run
from tests.ui.compare.test_page import compare


@pytest.mark.parametrize(
    ("written", "says", "says_not"),
    [
        ([{}, {"n_future": 2}], "n = 2 was trained under one control, layers.", "has more parameters"),
        ([{}, {"n_future": 2, "control": "trunk"}], "because it also has more parameters", "layers less"),
        (
            [{"n_future": 2}, {"n_future": 2, "control": "trunk"}],
            "is called an effect of the loss, train it under detached",
            "one control",
        ),
        ([{}, {"n_future": 2}], "All models were trained at one learning rate, 0.004.", "the loss"),
        ([{}], "1 seed here", "was trained under"),
        ([{"state": "failed"}], "failed: the loss of offset 1 became nan at step 3.", "stopped by"),
        ([{"state": "stopped"}], "A cross marks where a seed ended early", "failed:"),
        ([{"state": "running"}], "1 seed here", "a seed ended early"),
    ],
)
def test_notes_say_what_the_runs_cannot_show(runs: Path, written: list[dict], says: str, says_not: str) -> None:
    for options in written:
        write_run(runs, **({"steps": 100} | options))
    notes = "\n".join(caption.value for caption in compare().caption)
    assert says in notes and says_not not in notes
