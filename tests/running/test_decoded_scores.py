"""Scores of decoded text: those of the task's own evaluation where there is one, and counts written out in loops."""

import contextlib
import io

import numpy as np
import pytest
import torch

from playground.cli import main
from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from playground.generation.tree import Tree, chain
from playground.running.decoded_scores import completion_accuracy, exact_match, score_decoded
from playground.running.decoding import load_for_decoding
from playground.runs.store import load_run
from playground.training.evaluation import evaluate

TINY = ["--n-layers", "4", "--n-future", "3", "--d-model", "16", "--n-heads", "2", "--batch-size", "8", "--eval-every", "100",
        "--threads", "1", "--json", "--steps"]  # fmt: skip
POLYNOMIAL = ["--task", "polynomial", "--prime", "2", "--coefficients", "2", "--max-operations", "2", "--test-operations", "3",
              "--n-ctx", "20", "--test-per-m", "40", "--quick-per-m", "40", *TINY]  # fmt: skip
TREE = Tree(((0,), (1,), (0, 0)))


def trained(folder, name, *argv):
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["train", *argv, "--run-id", name, "--runs-dir", str(folder)]) == 0
    return load_for_decoding(load_run(folder / name))


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def polynomial(runs_dir):
    return trained(runs_dir, "polynomial", *POLYNOMIAL, "40")


@pytest.fixture(scope="module")
def text(runs_dir):
    (runs_dir / "lines.txt").write_text("".join(f"ab {number % 3}\n" for number in range(600)))
    argv = ["--task", "bytes", "--path", str(runs_dir / "lines.txt"), "--n-ctx", "24", "--lr", "0.01"]
    return trained(runs_dir, "text", *argv, *TINY, "60")


# --- polynomials ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("drafts", "batch"), [({}, 7), ({"speculative": 2}, 16), ({"tree": TREE}, 19)], ids=str)
def test_exact_match_is_that_of_the_task_by_number_of_operations(polynomial, drafts, batch):
    found = exact_match(polynomial, count=40, batch=batch, **drafts)
    scores = {score.name: score for score in evaluate(polynomial.model, polynomial.task).scores}
    assert found.operations == (1, 2, 3) and found.count.tolist() == [40, 40, 40]
    assert found.share.max() > 0
    for m, share, chance in zip(found.operations, found.share, found.chance, strict=True):
        assert share == pytest.approx(scores[f"exact_match_m{m}"].value)
        assert chance == pytest.approx(scores[f"exact_match_m{m}"].chance)
    assert found.speculative == {"{}": 1, "{'speculative': 2}": 2}.get(str(drafts), 3)
    assert [row["expressions"] for row in found.rows()] == [40, 40, 40]


def test_fewer_expressions_are_the_first_of_each_number_of_operations(polynomial):
    found = exact_match(polynomial, count=5, batch=16)
    batch = polynomial.task.test_batch(15)
    right = np.zeros(3)
    for row, scored, m in zip(batch.tokens, batch.score_mask, batch.info["operations"][:, 0].tolist(), strict=True):
        prompt = row[: int(scored.long().argmax())].tolist()
        (decoded,) = generate(polynomial.model, [prompt], DecodingConfig(max_new_tokens=2)).decoded
        right[m - 1] += list(decoded.tokens) == row[scored].tolist()
    np.testing.assert_allclose(found.share, right / 5)


@pytest.mark.parametrize("count", [0, 41])
def test_expressions_that_are_not_there_are_refused(polynomial, count):
    with pytest.raises(ValueError, match=f"count is {count}; write 1 to 40 expressions"):
        exact_match(polynomial, count=count)


# --- text -----------------------------------------------------------------------------------------------------------


def test_completions_are_counted_byte_by_byte_and_line_by_line(text):
    found = completion_accuracy(text, count=9, batch=4)
    windows = text.task.test_batch(9).tokens.tolist()
    right, lines, first = [], [], []
    for window in windows:
        (row,) = generate(text.model, [window[:12]], DecodingConfig(max_new_tokens=12)).decoded
        same = [a == b for a, b in zip(row.tokens, window[12:], strict=True)]
        right += same
        ends = [place for place, byte in enumerate(window[12:]) if byte == ord("\n")]
        starts = [0, *(end + 1 for end in ends)]
        whole = [all(same[start : end + 1]) for start, end in zip(starts, ends, strict=False)]
        lines += whole
        first += whole[:1]
    assert (found.windows, found.prompt_bytes, found.new_bytes) == (9, 12, 12)
    assert found.byte_share == pytest.approx(np.mean(right))
    assert (found.lines, found.first_lines) == (len(lines), len(first))
    assert found.line_share == pytest.approx(np.mean(lines)) and found.first_line_share == pytest.approx(np.mean(first))
    every = [byte for window in windows for byte in window[12:]]
    assert found.chance == pytest.approx(max(map(every.count, set(every))) / len(every))
    assert found.byte_share > found.chance


@pytest.mark.parametrize("drafts", [{"speculative": 3}, {"tree": TREE}], ids=str)
def test_drafts_leave_completions_as_they_are(text, drafts):
    plain, drafted = completion_accuracy(text, count=9, batch=4), completion_accuracy(text, count=9, batch=9, **drafts)
    assert plain.rows() == drafted.rows()
    assert (plain.tokens_per_forward, plain.speculative, drafted.speculative) == (1.0, 1, 3)
    assert drafted.tokens_per_forward > 1


def test_a_model_that_knows_the_text_reads_one(text):
    """Fake: the generated rows are the windows themselves."""
    from playground.running import decoded_scores

    windows = text.task.test_batch(4).tokens
    assert (
        decoded_scores._whole_lines(windows[0], torch.ones(24, dtype=torch.bool)) == [True] * (windows[0] == 10).sum()
    )


# --- which task -----------------------------------------------------------------------------------------------------


def test_the_task_says_which_score_there_is(polynomial, text, tmp_path):
    assert score_decoded(polynomial, chain(1), 4).share.shape == (3,)
    assert score_decoded(polynomial, chain(2), 4).speculative == 2
    assert score_decoded(text, TREE, 5).windows == 5
    induction = trained(tmp_path, "induction", "--task", "induction", "--n-ctx", "64", *TINY, "2")
    with pytest.raises(
        ValueError, match="of the task induction; decoded text has a score for the tasks polynomial and bytes"
    ):
        score_decoded(induction, chain(1))
    for score, task in ((exact_match, "text"), (completion_accuracy, "polynomial")):
        loaded = {"text": text, "polynomial": polynomial}[task]
        with pytest.raises(ValueError, match=f"run {task} is of the task"):
            score(loaded)
