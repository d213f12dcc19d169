"""A run on real stories keeps its tokenizer and test set: what needs no text works whatever becomes of the text."""

import json
import random
import shutil
from pathlib import Path

import pytest

from playground.cli import main
from playground.config import OptimConfig, RunConfig, TrainConfig
from playground.running.runner import resume, train
from playground.runs.errors import Damaged, RunError
from playground.runs.store import Run, load_run
from tasks.base import seeded_generator
from tasks.stories import StoriesConfig
from tests.cases import small_config
from tests.running.test_runner import same_numbers


def stories(seed: int = 3) -> str:
    """Small stories about named children."""
    draw = random.Random(seed)
    names, verbs = ["Anna", "Berta", "Carl", "Dora", "Emil", "Frieda"], "saw met found helped followed called".split()

    def story() -> str:
        pair = draw.sample(names, 2)
        sentences = [
            f"Then {' '.join([draw.choice(pair), draw.choice(verbs), draw.choice(pair)])} near the river."
            for _ in range(8)
        ]
        return " ".join([f"It was late, and {pair[0]} {draw.choice(verbs)} {pair[1]}.", *sentences])

    return "\n<|endoftext|>\n".join(story() for _ in range(300))


def config(path: Path) -> RunConfig:
    return RunConfig(
        task=StoriesConfig(path=str(path), n_ctx=64, bpe_vocab=300, test_stories=6),
        model=small_config(n_future=2, d_vocab=None, n_ctx=None),
        optim=OptimConfig(lr=3e-3, warmup_steps=5),
        train=TrainConfig(
            steps=20, batch_size=4, eval_every=10, log_every=5, checkpoint_every=8, threads=1, probe_points=3
        ),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `stories`, and in `runs` one run that was stopped at step 9 and one that was not."""
    root = tmp_path_factory.mktemp("stories")
    (root / "stories").mkdir()
    (root / "stories" / "one.txt").write_text(stories())
    asked = iter(range(1000))
    train(
        config(root / "stories"),
        root / "runs",
        run_id="stopped",
        should_stop=lambda: "enough" if next(asked) == 9 else "",
    )
    train(config(root / "stories"), root / "runs", run_id="whole")
    return root


@pytest.fixture
def root(trained, tmp_path) -> Path:
    """A copy of the runs, whose text lies where they were trained."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


TEXTS = ["as it was", "a character renamed", "gone", "a pipe"]


@pytest.fixture(params=TEXTS)
def any_text(request, trained):
    """The text in one of the states that it can be in later; put back afterwards."""
    import os

    file = trained / "stories" / "one.txt"
    before = file.read_text()
    if request.param == "a character renamed":
        file.write_text(before.replace("Anna", "Zanna"))
    elif request.param != "as it was":
        file.unlink()
    if request.param == "a pipe":
        os.mkfifo(file)
    yield request.param
    file.unlink(missing_ok=True)
    file.write_text(before)


def outcomes(runs: Path, capsys) -> list[str]:
    """What is measured and decoded with a run, by commands that need no text."""
    found: list[str] = []
    for command in (
        ["generate", "whole", "--max-new-tokens", "12", "--plain", "--json"],
        ["probe", "whole", "--probe", "behaviour", "composition", "copying", "--json", "--device", "cpu"],
    ):
        assert main([*command, "--runs-dir", str(runs)]) == 0
        for line in capsys.readouterr().out.splitlines():
            values = json.loads(line)
            found.append(json.dumps({key: value for key, value in values.items() if key not in ("decoding", "speed")}))
    return found


_first: list[list[str]] = []
"""What was measured in the first of the states; all must give the same."""


def test_what_needs_no_text_gives_the_same_whatever_becomes_of_the_text(root, any_text, capsys):
    found = outcomes(root / "runs", capsys)
    _first.append(found)
    assert found == _first[0]
    run = load_run(root / "runs" / "whole")
    assert run.task.encode("Anna met") and run.task.decode(run.task.encode("Anna met")) == "Anna met"


def test_what_reads_the_text_again_compares_it(root, any_text, capsys):
    run = load_run(root / "runs" / "stopped")
    if any_text == "as it was":
        assert resume(run).record.state == "finished"
        same_numbers(run.path, root / "runs" / "whole")
        return
    with pytest.raises(ValueError, match="--path"):
        run.task.sample(2, seeded_generator(0))
    with pytest.raises(RunError, match="cannot go on"):
        resume(run)
    assert load_run(run.path).record.state == "stopped"
    assert main(["resume", "stopped", "--runs-dir", str(root / "runs")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_linear_probe_counts_its_n_grams_on_the_text(root, any_text, capsys):
    done = main(["probe", "whole", "--probe", "linear", "--device", "cpu", "--runs-dir", str(root / "runs")])
    assert (done, "--path" in capsys.readouterr().err) == ((0, False) if any_text == "as it was" else (2, True))


def test_a_moved_text_can_be_named(root, capsys):
    (root / "moved").mkdir()
    (root / "moved" / "one.txt").write_text(stories())
    argv = ["resume", "stopped", "--path", str(root / "moved"), "--json", "--runs-dir", str(root / "runs")]
    assert main(argv) == 0
    same_numbers(root / "runs" / "stopped", root / "runs" / "whole")


@pytest.mark.parametrize("change", ["a byte", "cut", "gone"])
def test_a_changed_tokenizer_is_noticed(root, change):
    folder = root / "runs" / "whole" / "task"
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".safetensors"]
    for path in folder.iterdir():
        content = path.read_bytes()
        if change == "gone":
            path.unlink()
        else:
            path.write_bytes(
                content[:-3] if change == "cut" else content[:50] + bytes([content[50] ^ 1]) + content[51:]
            )
        with pytest.raises(RunError, match=path.name) as raised:
            _ = Run(root / "runs" / "whole").task
        assert (change == "gone") != isinstance(raised.value, Damaged)
        path.write_bytes(content)
    assert Run(root / "runs" / "whole").task.d_vocab == 300


def test_a_runs_folder_inside_the_text_folder_changes_nothing(tmp_path):
    text = tmp_path / "stories"
    text.mkdir()
    (text / "one.txt").write_text(stories())
    asked = iter(range(1000))
    run = train(config(text), text / "runs", run_id="inside", should_stop=lambda: "enough" if next(asked) == 9 else "")
    (text / "runs" / "inside" / "notes.txt").write_text("Nothing of this is a story.")
    assert resume(load_run(run.path)).record.state == "finished"
