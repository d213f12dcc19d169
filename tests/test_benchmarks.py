"""Every benchmark runs from end to end in its tiny setting, and its rows say what they must."""

import functools
import importlib
import itertools
import json
import math
import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks import decoding, floors, steps
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.loss_memory import SETTINGS, measure
from benchmarks.plain_gpt import PlainGPT
from benchmarks.saved import read
from benchmarks.timing import in_turns, kernel_seconds, quartiles, ratio, summary
from benchmarks.train_step import CASES, QUICK
from playground.config import ModelConfig
from playground.model.parameters import count_parameters
from playground.running.presets import make_config
from playground.running.runner import train
from playground.training.optim import make_optimizer
from tests.browser_support import browser_path
from tests.cases import random_tokens, small_config

QUICK_ONES = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("loss_memory", "replicas") else name  # starts processes
    for name in BENCHMARKS
    if name not in ("decoding", "app_pages")
]
"""Those that have a quick form without a browser. tests/test_cli_generate.py measures decoding."""


@functools.cache
def rows_of(name: str) -> list[dict[str, Any]]:
    return list(importlib.import_module(f"benchmarks.{name}").run("cpu", True))


def check(rows: list[dict[str, Any]]) -> None:
    assert rows
    for row in rows:
        low, middle, high = (row[f"value{end}"] for end in ("_quartile_low", "", "_quartile_high"))
        assert 0 < low <= middle <= high < math.inf
        assert row["unit"] and row["repeats"] >= 1
        assert row.get("ratio", 1) > 0
        if row.get("target") is not None:
            assert row["target_is"] in ("at least", "at most")


@pytest.mark.parametrize("name", QUICK_ONES)
def test_a_benchmark_runs_and_its_rows_have_median_quartiles_repeats_and_seed(name):
    rows = rows_of(name)
    check(rows)
    assert all("seed" in row or "seeds" in row for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(browser_path() is None, reason="needs a browser")
def test_the_pages_of_the_app_are_timed():
    # In another process: this one may have a browser open, and there can be only one.
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "app_pages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, *rows = map(json.loads, done.stdout.splitlines())
    check(rows)
    measured = [row["what"] for row in rows]
    assert measured[:2] == ["first paint", "rerun of train"]
    assert measured[-3:] == ["first paint of compare", "all figures of compare", "rerun of compare"]


def test_decoding_on_a_gpu_says_that_it_wants_one():
    (row,) = rows_of("decoding_short")
    assert "GPU" in row["skipped"]


def test_the_command_prints_a_header_and_saves_what_it_prints(tmp_path, capsys):
    file = tmp_path / "new folder" / "cpu.jsonl"
    main(["--quick", "--only", "floors", "--only", "decoding", "--save", str(file)])
    printed = capsys.readouterr().out.splitlines()
    assert printed == file.read_text().splitlines()
    (part,) = read(file)
    assert {"device", "processor", "cores", "load", "versions", "commit", "time", "quick"} <= set(part.header)
    assert [row["module"] for row in part.rows] == ["floors", "floors", "decoding"]
    assert "skipped" in part.rows[-1]


def test_floors_are_finite_and_measured_once():
    found = floors.measured("cpu", True)
    assert all(0 < rate < math.inf for rate in found)
    assert floors.measured("cpu", True) is found


def test_utilization_is_what_was_reached_over_the_floor():
    rows = rows_of("train_step")
    used = [row for row in rows if row["benchmark"] == "utilization"]
    assert [row["n_future"] for row in used] == [1, 4]
    assert all(row["ratio"] == pytest.approx(row["value"] / row["floor"], rel=0.01) for row in used)
    (cost,) = [row for row in rows if row["benchmark"] == "n_future_cost"]
    assert cost["ratio"] == pytest.approx(cost["time_ratio"] / cost["flops_ratio"], rel=0.01)


@pytest.mark.parametrize(
    "case", [*CASES["cpu"], *CASES["cuda"], *QUICK], ids=lambda case: f"{case.size}-{case.context}"
)
def test_every_size_has_the_layers_for_its_n(case):
    for n_future in (1, *case.further):
        assert case.config(n_future).n_trunk_layers >= 1


@pytest.mark.parametrize("backward", ["per_head", "one_graph"])
def test_memory_of_several_offsets_is_measured(backward):
    assert measure("cpu", SETTINGS["quick"], backward, 4) >= 0


# --- baselines -------------------------------------------------------------------------------------------------------


def test_the_plain_gpt_has_the_parameters_of_the_next_token_model():
    config = small_config()
    assert sum(p.numel() for p in PlainGPT(config).parameters()) == count_parameters(config).total


def test_the_plain_gpt_predicts_the_next_token_and_nothing_behind_the_row():
    model, tokens = PlainGPT(small_config()), random_tokens()
    with torch.no_grad():
        x = model.embed(tokens)
        for block in model.blocks:
            x = block(x, model.cos, model.sin)
        log_p = model.unembed(model.norm(x)).log_softmax(dim=-1)
    expected = -log_p[:, :-1].gather(2, tokens[:, 1:, None]).mean()
    torch.testing.assert_close(model(tokens), expected)


@pytest.mark.parametrize("make", [steps.ours, steps.plain, steps.lens])
def test_a_step_learns(make, monkeypatch):
    """Every step ends with an optimizer's step on the model it was made for."""
    models = []

    def remembered(model, config):
        models.append(model)
        return make_optimizer(model, config)

    monkeypatch.setattr(steps, "make_optimizer", remembered)
    config = ModelConfig(n_layers=2, n_heads=2, d_model=16, d_vocab=11, n_ctx=12)
    step = make(config, random_tokens())
    (model,) = models
    before = [parameter.detach().clone() for parameter in model.parameters()]
    step()
    learning = [p for p in model.parameters() if p.requires_grad]
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert len(learning) == len(before)


# --- timing ----------------------------------------------------------------------------------------------------------


def test_things_are_timed_in_turns():
    called: list[str] = []
    times = in_turns({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, "cpu", repeats=2, warmup=1)
    assert called == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(spent) for name, spent in times.items()} == {"a": 2, "b": 2}


def test_kernels_are_called_as_often_as_asked():
    called: list[int] = []
    assert len(kernel_seconds(lambda: called.append(1), "cpu", repeats=3, warmup=2)) == 3
    assert len(called) == 5


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7.0], (7, 7, 7)), ([1.0, 3.0], (1.5, 2, 2.5)), ([4.0, 1.0, 2.0, 3.0, 5.0], (2, 3, 4))],
)
def test_quartiles(values, expected):
    assert quartiles(values) == expected


def test_ratios_are_taken_turn_by_turn():
    """A turn in which both were slow counts like any other."""
    assert ratio([2.0, 20.0, 4.0], [1.0, 10.0, 2.0])["ratio"] == 2.0
    assert summary([1.0, 2.0, 3.0], "s") == {
        "value": 2.0,
        "value_quartile_low": 1.5,
        "value_quartile_high": 2.5,
        "unit": "s",
        "repeats": 3,
    }


def test_without_a_finished_run_decoding_is_skipped_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(tmp_path))
    four, eight = itertools.islice(decoding.run("cpu", False), 2)
    assert "--only decoding trains it first" in four["skipped"] and eight["n_future"] == 8


def test_decoding_finds_a_finished_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(tmp_path))
    config = make_config("induction-cpu", steps=1)
    assert decoding._stored(config) is None
    stored = train(config, tmp_path)
    found = decoding._stored(config)
    assert found is not None and found.id == stored.id
    assert decoding._stored(make_config("induction-cpu", steps=2)) is None
