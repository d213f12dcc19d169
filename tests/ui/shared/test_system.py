"""What runs made of their device: speeds from the stored rows, FLOP/s, MFU, memory, and what is not known."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from playground.analysis.compare import flops_per_token
from playground.analysis.groups import Group, group_runs
from playground.config import ModelConfig
from playground.config.flops import training_flops_per_token
from playground.runs.store import Run, read_store
from playground.runs.writing import append_line
from playground.ui.shared.system import (
    RECENT,
    SystemRow,
    flops_text,
    memory_text,
    mfu_text,
    rate_text,
    rows_of,
    system_csv,
    system_row,
    system_table,
    together,
)
from tests.fake_runs import settle, write_run
from tests.ui.support import change_json

GROUP = Group(label="n = 1", n_future=1, control="layers")
ROW = SystemRow(
    run="a",
    model="n = 1",
    seed=3,
    status="finished",
    device="NVIDIA H200",
    threads=2,
    replicas=4,
    tokens_per_second=16_100.0,
    now=15_000.0,
    flops=86.1e9,
    matmul_flops=210e9,
    peak_memory=612 * 2**20,
    seconds=100.0,
    probe_seconds=1.0,
)


def stored(path: Path) -> Run:
    (run,) = (run for run in read_store(path.parent, lenient=True).runs if run.id == path.name)
    return run


def resolve(path: Path) -> ModelConfig:
    """Write vocabulary and context into a run's configuration, as a training does."""
    model = json.loads((path / "config.json").read_text())["model"] | {"d_vocab": 64, "n_ctx": 64}
    change_json(path / "config.json", model=model)
    settle(path)
    return ModelConfig(**model)


def row(**changes: Any) -> SystemRow:
    values = {name: getattr(ROW, name) for name in ROW.__dataclass_fields__}
    return SystemRow(**(values | changes))


@pytest.fixture
def timed(runs: Path) -> Path:
    """A run whose rows of training came at 100, 200, .., 800 tokens/s."""
    path = write_run(runs, steps=100, done=0, state="running")
    seconds = 0.0
    for number in range(1, 9):
        seconds += 1 / number
        where = {"step": 10 * number, "tokens": 100 * number, "seconds": seconds}
        append_line(path / "metrics.jsonl", {"kind": "train", **where, "loss_1": 1.0})
    return path


def test_speeds_are_medians_over_the_rows_of_training(timed: Path) -> None:
    found = system_row(stored(timed), GROUP)
    assert found.tokens_per_second == pytest.approx(np.median(np.arange(100, 900, 100)))
    assert found.now == pytest.approx(np.median(np.arange(100, 900, 100)[-RECENT:]))


@pytest.mark.parametrize(("state", "rate"), [("running", 600), ("finished", 450)])
@pytest.mark.parametrize("replicas", [1, 4])
def test_flops_are_those_of_the_whole_process(timed: Path, state: str, rate: float, replicas: int) -> None:
    """Of now while it trains, otherwise of the whole run."""
    config = resolve(timed)
    change_json(timed / "run.json", status=state, replicas=replicas, matmul_flops=1e9, peak_memory=7)
    found = system_row(stored(timed), GROUP)
    assert found.flops == pytest.approx(rate * training_flops_per_token(config) * replicas)
    assert found.mfu == pytest.approx(rate * training_flops_per_token(config) * replicas / 1e9)
    assert (found.replicas, found.peak_memory) == (replicas, 7)


def test_what_is_not_known_is_none(runs: Path) -> None:
    found = system_row(stored(write_run(runs, steps=40, state="running", done=0)), GROUP)
    assert (found.tokens_per_second, found.now, found.flops, found.mfu) == (None,) * 4
    assert (found.matmul_flops, found.peak_memory) == (None, None)
    known = system_row(stored(write_run(runs, steps=40)), GROUP)
    assert known.tokens_per_second and known.flops is None


def test_without_rows_of_training_the_record_tells_the_speed(runs: Path) -> None:
    path = write_run(runs, steps=5)
    found = system_row(stored(path), GROUP)
    assert found.tokens_per_second == stored(path).record.tokens_per_second and found.now is None


@pytest.mark.parametrize(
    ("model", "base"),
    [({"d_vocab": None}, ""), (None, ""), ({"n_future": 2}, "some-base")],
)
def test_configurations_whose_flops_are_not_known(runs: Path, model: dict | None, base: str) -> None:
    path = write_run(runs, steps=20)
    resolve(path)
    assert flops_per_token(stored(path).values) is not None
    config = json.loads((path / "config.json").read_text())
    kept = {} if model is None else {"model": config.pop("model") | model}
    kept |= {"base": {"run": base}} if base else {}
    (path / "config.json").write_text(json.dumps({key: config[key] for key in config if key != "model"} | kept))
    settle(path)
    assert flops_per_token(stored(path).values) is None


def test_the_table_of_stored_runs() -> None:
    (shown,) = system_table([ROW]).to_dict("records")
    assert shown == {
        "model": "n = 1",
        "seed": 3,
        "status": "finished",
        "speed": "16.1 k tokens/s",
        "model FLOP/s": "86.1 GFLOP/s",
        "MFU": "41% of 210 GFLOP/s",
        "peak memory": "612 MiB",
        "device": "NVIDIA H200",
        "threads": 2,
        "models a process": 4,
        "run": "a",
    }


def test_the_table_beside_a_training_is_short_and_tells_the_speed_of_now() -> None:
    shown = system_table([row(status="running"), ROW], live=True)
    assert list(shown) == ["model", "seed", "now", "MFU", "peak memory", "device", "models a process"]
    assert shown["now"].tolist() == ["15 k tokens/s", "-"]
    ended = system_table([ROW], live=True)
    assert "now" not in ended and ended["speed"].tolist() == ["16.1 k tokens/s"]


def test_what_one_of_the_runs_knows_has_a_column() -> None:
    rows = [row(flops=None, matmul_flops=None), row(peak_memory=None, flops=None), row()]
    shown = system_table(rows)
    assert shown["MFU"].tolist() == ["-", "-", "41% of 210 GFLOP/s"]
    assert shown["peak memory"].tolist() == ["612 MiB", "-", "612 MiB"]
    assert not {"MFU", "model FLOP/s"} & set(system_table(rows[:2]))


def test_all_models_in_training_together() -> None:
    assert (
        together([row(status="running"), row(status="running", now=None), row(status="running", now=500.0), ROW])
        == 15_500
    )
    assert together([ROW]) == 0


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0042, "0.42%"), (0.051, "5.1%"), (0.41, "41%"), (0.999, "100%"), (1.33, "133%")],
)
def test_a_share_of_the_device(share: float, text: str) -> None:
    assert mfu_text(row(flops=share * 210e9)) == f"{text} of 210 GFLOP/s"


@pytest.mark.parametrize(
    ("number", "text"),
    [(5e6, "5 MFLOP/s"), (210e9, "210 GFLOP/s"), (0.9996e12, "1 TFLOP/s"), (7.42e14, "742 TFLOP/s")],
)
def test_flops_have_a_unit(number: float, text: str) -> None:
    assert flops_text(number) == text


@pytest.mark.parametrize(
    ("size", "text"), [(2**20, "1 MiB"), (612 * 2**20, "612 MiB"), (2**30, "1 GiB"), (80 * 2**30, "80 GiB")]
)
def test_memory_has_a_unit(size: int, text: str) -> None:
    assert memory_text(size) == text


def test_a_rate_has_a_unit() -> None:
    assert (rate_text(16_123.0), rate_text(None)) == ("16.1 k tokens/s", "-")


def test_the_csv_holds_plain_numbers() -> None:
    table = pd.read_csv(io.StringIO(system_csv([ROW, row(run="b", flops=None, peak_memory=None)])))
    assert table["run"].tolist() == ["a", "b"]
    np.testing.assert_allclose(table["mfu"], [0.41, np.nan])
    np.testing.assert_array_equal(table["peak_memory"], [612 * 2**20, np.nan])
    assert table["tokens_per_second"].tolist() == [16_100.0] * 2


def test_rows_carry_the_label_of_their_group(runs: Path) -> None:
    for n_future in (1, 2):
        write_run(runs, steps=20, n_future=n_future)
    found = list(read_store(runs, lenient=True).runs)
    rows = rows_of(found, group_runs({run.id: run.values for run in found}))
    assert {found.model for found in rows} == {"n = 1", "n = 2, layers"}
    assert [found.run for found in rows] == [run.id for run in found]
