"""What `compare` says of the runs it compares, and what `train` does about trainings that are stored already."""

import json
from pathlib import Path

from playground.cli import main
from playground.config import hash_values
from playground.runs.store import list_runs
from tests.fake_runs import write_run
from tests.test_cli import TINY


def test_compare_says_what_a_comparison_rests_on_and_shows_best_rates(tmp_path, capsys):
    names = []
    for options in ({}, {"n_future": 2}, {"n_future": 2}):
        names.append(write_run(tmp_path, steps=40, **options).name)
    values = json.loads((tmp_path / names[2] / "config.json").read_text())
    values["optim"]["lr"] = 0.5
    (tmp_path / names[2] / "config.json").write_text(json.dumps(values))
    record = json.loads((tmp_path / names[2] / "run.json").read_text())
    (tmp_path / names[2] / "run.json").write_text(json.dumps(record | {"config_hash": hash_values(values)}))
    assert main(["compare", *names[:2], "--runs-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "n = 2 was trained under one control, layers." in out and "at one learning rate, 0.004." in out
    assert main(["compare", *names, "--best-rates", "--json", "--runs-dir", str(tmp_path)]) == 0
    shown = [json.loads(line)["run"] for line in capsys.readouterr().out.splitlines()]
    assert names[0] in shown and len(shown) == 2


def test_a_training_that_is_stored_is_offered_and_not_repeated(tmp_path, capfd):
    command = ["train", *TINY, "--steps", "2", "--probe-points", "0", "--runs-dir", str(tmp_path)]
    assert main(command) == 0
    (path,) = list_runs(tmp_path)[0]
    assert main(command) == 0
    assert f"{path.id} is this training already, finished" in capfd.readouterr().err
    assert main([*command, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["run"] == path.id and len(list_runs(tmp_path)[0]) == 1
    assert main([*command, "--seeds", "0..1"]) == 0
    assert "trainings stored already: 1 of 2; write --again" in capfd.readouterr().err
    assert [run.record.seed for run in list_runs(tmp_path)[0]] == [0, 1]
    assert main([*command, "--again"]) == main([*command, "--run-id", "mine"]) == 0
    assert len(list_runs(tmp_path)[0]) == 4


def test_what_a_comparison_rests_on_is_said_for_each_task(capsys):
    stored = Path(__file__).parent / "data" / "stored_2026_11"
    names = ["bytes-n1", "bytes-n2", "induction-n1", "induction-n2", "induction-detached", "induction-linear"]
    assert main(["compare", *names, "--runs-dir", str(stored)]) == 0
    out = capsys.readouterr().out
    assert "bytes: n = 2 was trained under one control, layers." in out
    assert "induction: n = 2 was trained under layers, detached and trunk." in out
    assert "bpe_vocab" not in out, "fields that one task alone has distinguish no models of a task"
