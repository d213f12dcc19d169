"""`generate` as a person or a script uses it: text of every task, what is measured, and one sentence for what makes no sense."""

import json
import re
import shutil

import pytest
import torch

from playground.cli import generation, main
from playground.config import ClampConfig, ModelConfig, RunConfig, TrainConfig
from playground.generation.config import DecodingConfig
from playground.generation.generate import generate
from playground.model.transformer import MTPTransformer
from playground.running.decoding import load_for_decoding, task_prompts
from playground.runs.checkpoint import WEIGHTS, save_checkpoint
from playground.runs.record import RunRecord
from playground.runs.store import load_run
from playground.runs.writing import write_json
from playground.training.optim import make_optimizer
from tasks import make_task
from tasks.byte_text import ByteTextConfig
from tasks.induction import InductionConfig
from tasks.polynomial import PolynomialConfig
from tests.fake_runs import settle

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
INDUCTION = InductionConfig(n_ctx=16, min_distance=3, max_distance=6, d_vocab=11, test_rows=64, quick_rows=8)
POLYNOMIAL = PolynomialConfig(
    prime=3, coefficients=2, max_operations=2, test_operations=3, n_ctx=20, test_per_m=12, quick_per_m=12
)


def store(folder, name, task, n_future=2, *, status="finished", weights=(0, 2), **changes):
    """A run as the runner leaves it, with fresh weights."""
    model = ModelConfig(n_layers=n_future + 1, n_heads=2, d_model=16, n_future=n_future)
    config = RunConfig(task=task, model=model, train=TrainConfig(steps=2), **changes)
    made = make_task(task)
    config = config.resolve(d_vocab=made.d_vocab, n_ctx=made.n_ctx)
    record = RunRecord(
        run=name,
        status=status,
        task=task.name,
        preset=None,
        n_future=n_future,
        control="layers",
        seed=0,
        config_hash=config.hash(),
        steps=2,
        step=2 if status == "finished" else 1,
    )
    (folder / name).mkdir()
    write_json(folder / name / "config.json", config.to_dict())
    write_json(folder / name / "run.json", record.to_dict())
    settle(folder / name)
    network = MTPTransformer(config.model, torch.Generator().manual_seed(0))
    for step in weights:
        optimizer = make_optimizer(network, config.optim)
        save_checkpoint(folder / name / "checkpoints", step, network, optimizer, {"step": torch.tensor(step)})


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text").mkdir()
    (folder / "text" / "lines.txt").write_text("".join(f"ab {number % 3} é\n" for number in range(300)))
    store(folder, "bytes", ByteTextConfig(path=str(folder / "text" / "lines.txt"), n_ctx=24), 3)
    store(folder, "induction", INDUCTION)
    store(folder, "polynomial", POLYNOMIAL)
    store(folder, "next-token", INDUCTION, 1)
    store(folder, "clamped", INDUCTION, clamp=ClampConfig(force_previous_token=("blocks.0.0",)))
    store(folder, "stopped", INDUCTION, status="stopped", weights=(0,))
    store(folder, "empty", INDUCTION, status="stopped", weights=())
    store(folder, "broken", INDUCTION)
    (folder / "broken" / "checkpoints" / "2" / WEIGHTS).write_bytes(b"nothing")
    return folder


@pytest.fixture(autouse=True)
def _measured_once(monkeypatch):
    monkeypatch.setattr(generation, "MOST_REPEATS", 1)


def run(runs_dir, *argv):
    return main(["generate", *argv, "--device", "cpu", "--runs-dir", str(runs_dir)])


def expected(runs_dir, name, prompt=None, **options):
    """The text that `generate` writes, and its row, by the library."""
    loaded = load_for_decoding(load_run(runs_dir / name))
    tokens = task_prompts(loaded.task, 1)[0] if prompt is None else loaded.task.encode(prompt)
    (row,) = generate(loaded.model, [tokens], DecodingConfig(**options), cached=loaded.cached).decoded
    return loaded.task.decode([*row.prompt, *row.tokens]), row


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("induction", {"max_new_tokens": 13, "speculative": 2}),
        ("polynomial", {"max_new_tokens": 2}),
        ("next-token", {"max_new_tokens": 13}),
        ("clamped", {"max_new_tokens": 13}),
        ("stopped", {"max_new_tokens": 13}),
    ],
)
def test_a_test_row_is_continued_as_plain_text(runs_dir, capsys, name, options):
    loaded = load_for_decoding(load_run(runs_dir / name))
    room = loaded.model.n_ctx + 1 - len(task_prompts(loaded.task, 1)[0])
    text, _ = expected(runs_dir, name, **(options | {"max_new_tokens": min(options["max_new_tokens"], room)}))
    assert run(runs_dir, name) == 0
    printed = capsys.readouterr()
    assert printed.out == text + "\n" and not ESCAPE.search(printed.out + printed.err)


def test_the_last_line_says_what_it_took(runs_dir, capsys):
    assert run(runs_dir, "induction", "--prompt", "1 2 3", "--max-new-tokens", "12") == 0
    _, row = expected(runs_dir, "induction", "1 2 3", max_new_tokens=12, speculative=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"12 tokens, {row.forwards} forwards after the prompt's: {row.emitted / row.forwards:.2f} tokens per forward"
    )
    assert re.search(
        r"accepted offset 2 (\d+%|-); \d+\.\d\d times as fast as plain decoding \(.* to .* in \d+ repeats\), same text$",
        line,
    )


@pytest.mark.parametrize("argv", [["--plain"], ["--speculative", "1"]], ids=str)
def test_plain_decoding_has_nothing_to_compare_with(runs_dir, capsys, argv):
    assert run(runs_dir, "induction", "--prompt", "1 2 3", "--max-new-tokens", "5", *argv) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == expected(runs_dir, "induction", "1 2 3", max_new_tokens=5)[0]
    assert re.fullmatch(r"5 tokens, 4 forwards after the prompt's, step by step; [\d,]+ tokens/s\n", printed.err)


@pytest.mark.parametrize("argv", [["--speculative", "2"], ["--speculative", "3"], ["--tree", "6"], []], ids=str)
def test_drafts_leave_the_text_as_it_is(runs_dir, capsys, argv):
    assert run(runs_dir, "bytes", "--prompt", "ab 1", "--max-new-tokens", "9", "--json", *argv) == 0
    assert run(runs_dir, "bytes", "--prompt", "ab 1", "--max-new-tokens", "9", "--json", "--plain") == 0
    drafted, plain = map(json.loads, capsys.readouterr().out.splitlines())
    assert (
        drafted["text"] == plain["text"] and drafted["decoding"]["speculative"] > 1 == plain["decoding"]["speculative"]
    )


def test_json_has_everything(runs_dir, capsys):
    assert run(runs_dir, "bytes", "--samples", "2", "--max-new-tokens", "6", "--json") == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert printed.err == "" and len(lines) == 2
    for line in lines:
        assert (line["run"], line["step"], len(line["strings"])) == ("bytes", 2, 6)
        (row,) = line["decoding"]["decoded"]
        assert len(row["prompt"]) == 12 and len(row["tokens"]) == len(row["offsets"]) == 6
        assert {draft["offset"] for step in row["steps"] for draft in step["drafts"]} <= {2, 3}
        assert [entry["offset"] for entry in line["acceptance"]] == [2, 3]
        assert line["speed"].keys() >= {
            "speedup",
            "spread",
            "speedup_by_parts",
            "identical",
            "marginal",
            "plain_seconds",
        }


def test_the_same_seed_draws_the_same_text_and_samples_differ(runs_dir, capsys):
    argv = ["bytes", "--prompt", "ab", "--temperature", "1.5", "--max-new-tokens", "12", "--json"]
    for more in (["--samples", "3"], ["--samples", "3"], ["--seed", "1"]):
        assert run(runs_dir, *argv, *more) == 0
    texts = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert texts[:3] == texts[3:6] and len(set(texts)) == 4


def test_sampled_text_says_on_what_it_was_measured(runs_dir, capsys):
    argv = ["induction", "--prompt", "1 2", "--temperature", "1", "--max-new-tokens", "9"]
    assert run(runs_dir, *argv) == run(runs_dir, *argv, "--typical") == 0
    exact, typical = capsys.readouterr().err.splitlines()
    assert "times as fast as plain decoding of as many tokens, 9 (" in exact and "NOT" not in exact
    assert typical.endswith("; typical acceptance: NOT distributed as in plain decoding")


def test_a_context_that_is_full_slides(runs_dir, capsys):
    assert run(runs_dir, "induction", "--prompt", " ".join(["1 2"] * 10), "--max-new-tokens", "30", "--slide") == 0
    text, _ = expected(
        runs_dir, "induction", " ".join(["1 2"] * 10), max_new_tokens=30, speculative=2, overflow="slide"
    )
    assert capsys.readouterr().out == text + "\n"


def test_stop_tokens_end_the_text(runs_dir, capsys):
    _, row = expected(runs_dir, "induction", "1 2 3", max_new_tokens=12)
    stop = row.tokens[5]
    assert run(runs_dir, "induction", "--prompt", "1 2 3", "--max-new-tokens", "12", "--json", "--stop", str(stop)) == 0
    (decoded,) = json.loads(capsys.readouterr().out)["decoding"]["decoded"]
    assert decoded["ended"] == "stop" and decoded["tokens"] == list(row.tokens[: row.tokens.index(stop) + 1])


@pytest.mark.parametrize("text", ["\\n", "\n", "⏎"])
def test_a_new_line_may_be_written_in_three_ways(runs_dir, text):
    from playground.cli.generate_options import _stop_token

    assert _stop_token(text, load_for_decoding(load_run(runs_dir / "bytes"))) == 10


def test_a_stored_step_is_chosen(runs_dir, capsys):
    assert run(runs_dir, "induction", "--step", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["step"] == 0


def test_what_is_particular_about_a_run_is_said(runs_dir, capsys):
    assert run(runs_dir, "stopped", "--plain") == run(runs_dir, "clamped", "--plain") == 0
    stopped, _, clamped, _ = capsys.readouterr().err.splitlines()
    assert stopped == "run stopped is stopped at step 1 of 2; taken is step 0"
    assert "without a cache, and slowly" in clamped


# --- benchmark and evaluation ---------------------------------------------------------------------------------------


def test_the_benchmark_has_a_line_for_every_way_and_batch(runs_dir, capsys):
    assert run(runs_dir, "bytes", "--benchmark", "--samples", "3", "--max-new-tokens", "4", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["drafts"], line["batch"]) for line in lines] == [
        (name, batch) for name in ("K = 2", "K = 3", "tree 16", "tree 32") for batch in (1, 3)
    ]
    assert all(line["identical"] for line in lines)
    assert [line["nodes"] for line in lines] == [2, 2, 3, 3, 16, 16, 32, 32]


def test_the_benchmark_is_a_table(runs_dir, capsys):
    assert run(runs_dir, "induction", "--benchmark", "--prompt", "1 2", "--samples", "1", "--max-new-tokens", "4") == 0
    printed = capsys.readouterr()
    assert "Decoding with induction, step 2: 1 prompt, 4 new tokens each, cpu" in printed.out
    assert "tree 16" in printed.out and "conditional" in printed.out and "K = 2, batch 1: " in printed.err


@pytest.mark.parametrize(
    ("name", "words"),
    [("polynomial", ["operations", "exact match", "chance"]), ("bytes", ["bytes as in the text", "whole lines"])],
)
def test_evaluation_is_a_table_or_json(runs_dir, capsys, name, words):
    argv = [name, "--evaluate", "--samples", "4"]
    assert (
        run(runs_dir, *argv)
        == run(runs_dir, *argv, "--plain", "--json")
        == run(runs_dir, *argv, "--tree", "4", "--json")
        == 0
    )
    *table, plain, tree = capsys.readouterr().out.splitlines()
    assert (
        all(word in "\n".join(table) for word in words)
        and f"Decoded with {name}, step 2: drafts up to offset" in table[0]
    )
    plain, tree = json.loads(plain), json.loads(tree)
    assert (plain["run"], plain["speculative"], plain["tokens_per_forward"]) == (name, 1, 1.0) and tree[
        "speculative"
    ] > 1
    for key in {"share", "byte_share", "line_share"} & plain.keys():
        assert plain[key] == tree[key]


# --- what makes no sense --------------------------------------------------------------------------------------------

BAD = [
    ([], "Missing from python -m playground generate: RUN"),
    (["nothing"], "there is no run 'nothing'"),
    (["empty"], "run empty (stopped) has stored no weights to decode with; train it: python -m playground resume empty"),
    (["broken"], "weights.safetensors is damaged"),
    (["induction", "--step", "7"], "run induction has no checkpoint at step 7; there are: 0, 2"),
    (["induction", "--prompt", "1 99"], "word 2, '99', is no token of this task"),
    (["induction", "--prompt", ""], "the text holds no token"),
    (["bytes", "--prompt", ""], "the text is empty"),
    (["bytes", "--prompt", "a" * 25], "the prompt has 25 tokens, and the context of run bytes holds 24; shorten it, or write --slide"),
    (["bytes", "--prompt", "a" * 20, "--max-new-tokens", "9"], "leaves room for 5 new ones in a context of 24, and 9 are wanted; write --max-new-tokens 5"),
    (["bytes", "--speculative", "4"], "--speculative is 4, and run bytes predicts the offsets 1 to 3; write at most 3"),
    (["bytes", "--speculative", "0"], "--speculative is 0; write at least 1"),
    (["bytes", "--tree", "1"], "--tree is 1; write at least 2"),
    (["bytes", "--samples", "0"], "--samples is 0; write at least 1"),
    (["bytes", "--max-new-tokens", "0"], "--max-new-tokens is 0; write at least 1"),
    (["next-token", "--speculative", "2"], "run next-token predicts the next token only and has no future heads to draft with; leave --speculative out"),
    (["next-token", "--tree", "4"], "leave --tree out"),
    (["next-token", "--benchmark"], "leave --benchmark out, or take a run with n_future of 2 or more"),
    (["next-token", "--typical", "--temperature", "1"], "leave --typical out"),
    (["bytes", "--temperature", "0"], "temperature is 0.0; write a number above 0"),
    (["bytes", "--temperature", "-1"], "temperature is -1.0"),
    (["bytes", "--top-k", "5"], "write a temperature with them"),
    (["bytes", "--temperature", "1", "--top-p", "2"], "top_p is 2.0"),
    (["bytes", "--tree", "4", "--speculative", "2"], "--speculative and --tree were both given"),
    (["bytes", "--plain", "--speculative", "2"], "--plain and --speculative were both given; leave one out"),
    (["bytes", "--typical"], "--typical needs sampled text; write --temperature with it"),
    (["bytes", "--typical", "--plain", "--temperature", "1"], "plain decoding has none"),
    (["bytes", "--prompt", "a", "--samples", "2"], "greedy decoding continues a prompt in one way"),
    (["bytes", "--stop", "ab"], "--stop takes texts of one token each, and 'ab' has 2: a b"),
    (["induction", "--stop", "99"], "word 1, '99', is no token"),
    (["bytes", "--benchmark", "--evaluate"], "leave one out"),
    (["bytes", "--benchmark", "--tree", "4"], "--benchmark tries every K and two trees; leave --tree out"),
    (["bytes", "--evaluate", "--prompt", "a"], "leave --prompt out"),
    (["bytes", "--evaluate", "--temperature", "1"], "leave --temperature out"),
    (["induction", "--evaluate"], "run induction is of the task induction; decoded text has a score for the tasks polynomial and bytes"),
    (["polynomial", "--evaluate", "--samples", "13"], "count is 13; write 1 to 12 expressions"),
    (["bytes", "--speculativ", "2"], "perhaps you meant --speculative"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "message"), BAD, ids=str)
def test_bad_input_is_one_sentence_and_status_2(argv, message, runs_dir, capsys):
    assert run(runs_dir, *argv) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and error.startswith("error: ")


def test_a_run_of_text_that_is_gone_says_so(runs_dir, tmp_path, capsys):
    shutil.copytree(runs_dir / "bytes", tmp_path / "bytes")
    config = json.loads((tmp_path / "bytes" / "config.json").read_text())
    config["task"]["path"] = str(tmp_path / "gone.txt")
    write_json(tmp_path / "bytes" / "config.json", config)
    settle(tmp_path / "bytes")
    assert run(tmp_path, "bytes") == 2
    assert "there is nothing at" in capsys.readouterr().err


def test_help_is_listed_and_describes_the_options(capsys):
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(
        f"--{name}" in shown for name in ("prompt", "speculative", "tree", "typical", "slide", "benchmark", "json")
    )
    assert "  generate  Continue text" in shown
