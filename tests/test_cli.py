"""The command line as a person or a script uses it, in processes of its own where signals or status matter."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys

import pytest

from playground import load_run
from playground.cli import main
from playground.cli.training import _say_how_it_ended
from playground.runs.lock import run_lock
from playground.runs.store import Run
from tests.fake_runs import write_run

TINY = ["--task", "induction", "--n-layers", "3", "--n-future", "2", "--d-model", "16", "--n-heads", "2", "--n-ctx", "16",
        "--max-distance", "6", "--min-distance", "3", "--d-vocab", "11", "--batch-size", "8", "--eval-every", "10",
        "--threads", "1"]  # fmt: skip
ENVIRONMENT = os.environ | {"PLAYGROUND_NO_TYPECHECK": "1"}


def train(runs_dir, *more: str) -> dict:
    command = [sys.executable, "-m", "playground", "train", *TINY, "--runs-dir", str(runs_dir), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in ("0", "1"):
        argv = ["train", *TINY, "--steps", "12", "--seed", seed, "--run-id", f"run-{seed}", "--runs-dir", str(folder)]
        with contextlib.redirect_stdout(io.StringIO()):
            assert main([*argv, "--json"]) == 0
    return folder


def test_train_ends_with_one_json_line(tmp_path):
    answer = train(tmp_path, "--steps", "3")
    assert answer.keys() == {"run", "path", "status"}
    assert answer["status"] == "finished"
    config = json.loads((tmp_path / answer["run"] / "config.json").read_text())
    assert (config["model"]["n_future"], config["model"]["d_vocab"], config["task"]["max_distance"]) == (2, 11, 6)


def test_compare_json_has_one_object_a_run(runs_dir, capsys):
    assert main(["compare", "run-0", "run-1", "--runs-dir", str(runs_dir), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0].keys() >= {
        "run", "task", "preset", "n_future", "control", "seed", "tokens", "seconds", "score_name", "higher_is_better",
        "score", "chance", "ceiling", "t50_tokens", "parameters", "next_token_depth", "tokens_per_second"}  # fmt: skip
    assert rows[0]["tokens"] == 12 * 8 * 16
    assert (rows[0]["next_token_depth"], rows[0]["ceiling"]) == (2, 1.0)


def test_tables_name_the_runs(runs_dir, capsys):
    assert main(["compare", "run-0", "run-1", "--runs-dir", str(runs_dir)]) == 0
    assert main(["runs", "list", "--runs-dir", str(runs_dir)]) == 0
    assert main(["runs", "show", "run-0", "--runs-dir", str(runs_dir)]) == 0
    out = capsys.readouterr().out
    assert out.count("run-1") == 2
    assert "next-token depth" in out


def test_runs_json(runs_dir, capsys):
    assert main(["runs", "list", "--runs-dir", str(runs_dir), "--json"]) == 0
    assert main(["runs", "show", "run-0", "--runs-dir", str(runs_dir), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["run"] for line in lines] == ["run-0", "run-1", "run-0"]
    assert lines[2]["config"]["task"]["name"] == "induction"


def test_rm_removes_and_an_empty_folder_says_how_to_begin(tmp_path, capsys):
    answer = train(tmp_path, "--steps", "2")
    assert main(["runs", "rm", answer["run"], "--runs-dir", str(tmp_path)]) == 0
    assert main(["runs", "list", "--runs-dir", str(tmp_path)]) == 0
    assert "python -m playground train --preset induction-cpu" in capsys.readouterr().out


def test_a_stored_configuration_is_where_another_training_starts(tmp_path, capsys):
    first = train(tmp_path, "--steps", "2")
    again = subprocess.run(
        [sys.executable, "-m", "playground", "train", "--config", f"{first['path']}/config.json", "--seed", "5", "--json",
         "--runs-dir", str(tmp_path)], capture_output=True, text=True, check=True)  # fmt: skip
    runs = [load_run(path) for path in (first["path"], json.loads(again.stdout)["path"])]
    assert [run.record.seed for run in runs] == [runs[0].record.seed, 5]
    assert runs[1].config == dataclasses.replace(runs[0].config, seed=5)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert main(["train", "--config", str(broken)]) == 2
    assert (
        "broken.json is damaged: it is not JSON (line 1, column 2); write the config.json of a run"
        in capsys.readouterr().err
    )


def test_a_training_whose_process_was_killed_is_no_success(tmp_path, capsys):
    runs = [Run(write_run(tmp_path, seed=seed, state=state)) for seed, state in enumerate(("finished", "interrupted"))]
    assert _say_how_it_ended(runs, as_json=False) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {runs[1].id}: its process was killed; go on with: python -m playground resume {runs[1].id}"
    )
    assert error.count("error:") == 1


BAD = [
    ([], None),
    (["trian"], "there is no command 'trian'; did you mean 'train'?"),
    (["train"], "write --preset"),
    (["train", "--preset", "induction"], "there is no preset 'induction'; did you mean 'induction-"),
    (["train", "--task", "story"], "there is no task 'story'; did you mean 'stories'?"),
    (["train", "--preset", "induction-cpu", "--size", "2M"], "there is no size '2M'; did you mean '3M'?"),
    (["train", "--preset", "induction-cpu", "--n-future", "9"], "n_future 9 leaves no trunk of 3 layers"),
    (["train", "--preset", "induction-cpu", "--d-model", "65"], "d_model 65 is not divisible by n_heads 4"),
    (["train", "--preset", "induction-cpu", "--max-distance", "99"], "max_distance 99 leaves nothing to score"),
    (["train", "--preset", "induction-cpu", "--run-id", "a/b"], "run id 'a/b' cannot name a folder"),
    (["train", "--preset", "induction-cpu", "--n-futur", "2"], "--n-futur, 2; perhaps you meant --n-future"),
    (["train", "--preset", "induction-cpu", "--steps", "many"], "Error parsing --steps: "),
    (["train", "--preset", "induction-cpu", "--control", "foo"], "invalid choice 'foo' for argument '--control'"),
    (["train", "--preset", "induction-cpu", "--task", "bytes"], "leave one out"),
    (["train", "--preset", "induction-cpu", "--eps", "-5"], "eps is -5.0; write a number above 0, such as 1e-05"),
    (["train", "--preset", "induction-cpu", "--lr", "inf"], "lr is inf; write a finite number"),
    (["train", "--preset", "induction-cpu", "--threads", "100000"], "threads is 100000; write at most 1024"),
    (["train", "--preset", "induction-cpu", "--test-rows", "0"], "test_rows is 0; write at least 1"),
    (["train", "--preset", "induction-cpu", "--run-id", "x" * 300], "cannot name a folder; write letters"),
    (["train", "--preset", "induction-cpu", "--seeds", "3..1"], "'3..1' is no seed or range; write 0..15, or 0,3,5"),
    (["train", "--preset", "induction-cpu", "--seeds", "a"], "'a' is no seed or range; write 0..15, or 0,3,5"),
    (["train", "--preset", "induction-cpu", "--seeds", "0..3,2"], "--seeds is '0..3,2', which names a seed twice"),
    (["train", "--preset", "induction-cpu", "--seeds", "0,1", "--seed", "1"], "--seed and --seeds were both given"),
    (["train", "--preset", "induction-cpu", "--lrs", "fast"], "--lrs is 'fast'"),
    (["train", "--preset", "induction-cpu", "--lrs", "1e-3,0.001"], "which names a rate twice"),
    (["train", "--preset", "induction-cpu", "--lrs", "0,1e-3"], "lr is 0.0; write a number above 0"),
    (["train", "--preset", "induction-cpu", "--seeds", "0,1", "--run-id", "a"], "2 trainings and 1 different run ids"),
    (
        ["train", "--preset", "induction-cpu", "--seeds", "0,1", "--run-id", "a,b/c"],
        "run id 'b/c' cannot name a folder",
    ),
    (["train", "--preset", "induction-cpu", "--config", "x.json"], "--config and --preset were both given"),
    (
        ["train", "--config", "x.json"],
        "cannot read the configuration: x.json is missing; write the config.json of a run",
    ),
    (["runs"], "write what to do: runs list"),
    (["runs", "lst"], "there is no command 'runs lst'; did you mean 'list'?"),
    (["compare", "--jsn"], "Unrecognized options: --jsn"),
    (["resume"], "write at least one run: python -m playground resume RUN"),
    (["compare", "nothing"], "there is no run 'nothing'"),
    (["compare"], "write at least one run"),
    (["resume", "nothing"], "there is no run 'nothing'"),
    (["runs", "rm"], "write at least one run"),
    (["runs", "show", "run-"], "is the beginning of 2 runs"),
    (["resume", "run-0"], "is finished; there is nothing to resume"),
    (["probe"], "Missing from python -m playground probe: RUN"),
    (["probe", "nothing"], "there is no run 'nothing'"),
    (["probe", "run-0", "--probe", "knockuot"], "there is no probe 'knockuot'; did you mean 'knockout'?"),
    (["probe", "run-0", "--probe", "lens", "zzz"], "there is no probe 'zzz'; there are: ablation, "),
    (["probe", "run-0", "--probe"], "--probe"),
    (["probe", "run-0", "--step", "5"], "run run-0 has no checkpoint at step 5; write last, all or one of 0, 12"),
    (["probe", "run-0", "--step", "first"], "no checkpoint at step first"),
    (["probe", "run-0", "--step", "-1"], "no checkpoint at step -1"),
    (["probe", "run-0", "--device", "tpu"], "invalid choice 'tpu'"),
    (["formation"], "write at least one run: python -m playground formation"),
    (["formation", "nothing"], "there is no run 'nothing'"),
    (["formtion"], "there is no command 'formtion'; did you mean 'formation'?"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=lambda value: str(value)[:100])
def test_bad_input_is_one_sentence_and_status_2(argv, message, runs_dir, capsys):
    takes_folder = ("train", "resume", "compare", "probe", "formation")
    where = ["--runs-dir", str(runs_dir)] if argv and argv[0] in takes_folder else []
    where += ["--runs-dir", str(runs_dir)] if argv[1:2] in (["rm"], ["show"]) else []
    status = main([*argv, *where])
    error = capsys.readouterr().err
    if message is None:
        assert status == 0
    else:
        assert status == 2
        assert message in error
        assert len(error.strip().splitlines()) == 1
        assert "Traceback" not in error


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["train", "--help"],
        ["resume", "--help"],
        ["compare", "--help"],
        ["runs", "--help"],
        ["probe", "--help"],
        ["formation", "--help"],
    ],
    ids=str,
)
def test_help(argv, capsys):
    with contextlib.suppress(SystemExit):
        assert main(argv) == 0
    assert "python -m playground" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["train", *TINY], ["runs", "list"]], ids=str)
def test_a_file_in_place_of_the_runs_folder_is_bad_input(argv, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*argv, "--runs-dir", str(tmp_path / "file")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_run_named_twice_is_removed_once(tmp_path, capsys):
    run = train(tmp_path, "--steps", "2")["run"]
    assert main(["runs", "rm", run, run, "--runs-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().err.count("removed") == 1


def test_a_diverging_training_exits_with_1(tmp_path, capsys):
    argv = ["train", *TINY, "--steps", "30", "--lr", "1e30", "--clip", "1e30", "--warmup-steps", "0", "--probe-points", "0",
            "--runs-dir", str(tmp_path)]  # fmt: skip
    assert main([*argv, "--json"]) == 1
    printed = capsys.readouterr()
    assert "offset" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["status"] == "failed"


def test_the_environment_chooses_the_runs_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(tmp_path / "elsewhere"))
    assert main(["train", *TINY, "--steps", "2", "--json"]) == 0
    run = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert run["path"] == str(tmp_path / "elsewhere" / run["run"])
    assert main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == run["run"]


# --- probe ----------------------------------------------------------------------------------------------------------


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def probed_dir(runs_dir, tmp_path):
    """The two runs, for tests that add to them."""
    for name in ("run-0", "run-1"):
        shutil.copytree(runs_dir / name, tmp_path / name)
    return tmp_path


def test_probe_shows_tables_of_the_last_model_and_keeps_the_results(probed_dir, capsys):
    assert main(["probe", "run-0", "--device", "cpu", "--runs-dir", str(probed_dir)]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("run-0, step 12") == 3
    for word in ("previous token", "ideal head", "future_heads.1.1", "sender", "random other heads"):
        assert word in printed.out
    assert printed.err == f"stored in {probed_dir / 'run-0' / 'probes'} for step 12\n"
    assert [row["step"] for row in lines_of((probed_dir / "run-0/probes/knockout.jsonl").read_text())] == [12]


@pytest.mark.parametrize(("step", "expected"), [("last", [12]), ("all", [0, 12]), ("0", [0]), ("12", [12])])
def test_probe_json_has_one_object_a_probe_and_step(probed_dir, capsys, step, expected):
    argv = ["probe", "run-0", "--probe", "behaviour", "knockout", "--step", step, "--device", "cpu", "--json"]
    assert main([*argv, "--runs-dir", str(probed_dir)]) == 0
    printed = capsys.readouterr()
    rows = lines_of(printed.out)
    assert [(row["run"], row["step"], row["probe"]) for row in rows] == [
        ("run-0", at, probe) for at in expected for probe in ("behaviour", "knockout")
    ]
    assert len(rows[0]["accuracy"]) == 2 and isinstance(rows[1]["without_induction"], float)
    assert printed.err == "" and "NaN" not in printed.out
    assert [row["step"] for row in lines_of((probed_dir / "run-0/probes/knockout.jsonl").read_text())] == expected


def test_all_steps_show_one_table_of_the_last_and_take_their_place_among_those_along_training(probed_dir, capsys):
    file = probed_dir / "run-0/probes/behaviour.jsonl"
    before = lines_of(file.read_text())
    assert main(["probe", "run-0", "--probe", "behaviour", "--step", "all", "--runs-dir", str(probed_dir)]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("run-0, step") == 1 and printed.err.endswith("for steps 0, 12\n")
    after = lines_of(file.read_text())
    assert [(row["step"], row["tokens"]) for row in after] == [(row["step"], row["tokens"]) for row in before]
    for row, again in zip(before, after, strict=True):
        assert row["loss"] == pytest.approx(again["loss"], rel=1e-4)


@pytest.mark.parametrize(
    "argv",
    [["--probe", "list"], ["run-0", "--probe", "list"], ["--probe", "list", "--json"], ["--probe=list"]],
    ids=str,
)
def test_probe_list_names_all_probes(argv, capsys):
    from playground.probes.catalogue import all_probes

    assert main(["probe", *argv]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in all_probes())


def test_a_run_without_a_checkpoint_is_refused(tmp_path, capsys):
    name = write_run(tmp_path, steps=20).name
    assert main(["probe", name, "--runs-dir", str(tmp_path)]) == 2
    assert f"run {name} has no checkpoint yet" in capsys.readouterr().err


def test_a_run_that_is_training_is_refused(probed_dir, capsys):
    with run_lock(probed_dir / "run-0"):
        assert main(["probe", "run-0", "--probe", "composition", "--runs-dir", str(probed_dir)]) == 2
    assert "run run-0 is being trained by another process" in capsys.readouterr().err


# --- formation ------------------------------------------------------------------------------------------------------


def test_formation_of_one_run_is_a_table_of_its_events(runs_dir, capsys):
    assert main(["formation", "run-0", "--runs-dir", str(runs_dir)]) == 0
    out = capsys.readouterr().out
    assert "Events of n = 2, layers" in out and "half of final" in out
    for event in (
        "previous token",
        "K-composition",
        "induction",
        "2-ahead induction",
        "accuracy",
        "accuracy of offset 2",
    ):
        assert f" {event} " in out


def test_formation_of_several_groups_gives_order_and_medians(probed_dir, capsys):
    one = list(TINY)
    one[one.index("--n-future") + 1] = "1"
    assert main(["train", *one, "--steps", "12", "--run-id", "base", "--json", "--runs-dir", str(probed_dir)]) == 0
    capsys.readouterr()
    assert main(["formation", "run-1", "base", "run-0", "--runs-dir", str(probed_dir)]) == 0
    out = capsys.readouterr().out
    titles = [
        "Events of n = 1",
        "Order of events, n = 2, layers: in how many of 2 runs",
        "Tokens to half of the final value",
    ]
    assert [title for title in titles if title in out] == titles
    assert [out.index(title) for title in titles] == sorted(out.index(title) for title in titles)
    assert "ratio to n = 1" in out and "accuracy of offset 2" in out


def test_formation_counts_a_seed_once_and_names_what_it_leaves_out(probed_dir, tmp_path, capsys):
    """A run that was trained twice, and n = 1 under both controls, are one run each."""
    one = list(TINY)
    one[one.index("--n-future") + 1] = "1"
    runs = tmp_path / "runs"
    for control in ("layers", "trunk"):
        assert main(["train", *one, "--control", control, "--run-id", control, "--json", "--runs-dir", str(runs)]) == 0
    for name in ("run-0", "run-1"):
        shutil.copytree(probed_dir / name, runs / name)
    shutil.copytree(runs / "run-0", runs / "again")
    record = json.loads((runs / "again" / "run.json").read_text())
    (runs / "again" / "run.json").write_text(json.dumps(record | {"created": record["created"] + 60}))
    capsys.readouterr()
    assert main(["formation", "layers", "trunk", "again", "run-0", "run-1", "--runs-dir", str(runs)]) == 0
    out, err = capsys.readouterr()
    assert "Order of events, n = 2, layers: in how many of 2 runs" in out and "Events of n = 1" in out
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "run layers (n = 1, seed 0) is not counted",
        "run run-0 (n = 2, layers, seed 0) is not counted",
    ]
    assert err.count("a newer run has the same configuration and seed") == 2


def test_formation_json_has_one_object_a_run(runs_dir, capsys):
    assert main(["formation", "run-0", "run-1", "--json", "--runs-dir", str(runs_dir)]) == 0
    rows = lines_of(capsys.readouterr().out)
    assert [(row["run"], row["seed"], row["n_future"]) for row in rows] == [("run-0", 0, 2), ("run-1", 1, 2)]
    events = {event["name"]: event for event in rows[0]["main"]}
    assert events["K-composition"]["ceiling"] is None and events["accuracy"]["seen"] == 12 * 8 * 16
    assert {event["name"] for event in rows[0]["heads"]} == {"previous token", "induction", "2-ahead induction"}


def test_formation_without_stored_probes_says_how_to_get_them(tmp_path, capsys):
    path = write_run(tmp_path, steps=20)
    shutil.rmtree(path / "probes")
    assert main(["formation", path.name, "--runs-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "has no stored probe 'task_attention'; train with --probes task_attention composition behaviour" in error
    assert f"python -m playground probe {path.name} --probe task_attention composition behaviour --step all" in error


def test_what_the_error_says_makes_formation_work(probed_dir, capsys):
    shutil.rmtree(probed_dir / "run-0" / "probes")
    argv = ["--probe", "task_attention", "composition", "behaviour", "--step", "all", "--json"]
    assert main(["probe", "run-0", *argv, "--runs-dir", str(probed_dir)]) == 0
    assert main(["formation", "run-0", "--runs-dir", str(probed_dir)]) == 0
    assert "Events of" in capsys.readouterr().out
