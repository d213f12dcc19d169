"""Which trainings are stored already."""

import dataclasses
import json

import pytest
import torch

from playground.config import RunConfig
from playground.running import existing
from playground.running.existing import existing_runs, find_existing
from playground.running.presets import make_config
from playground.runs.record import RunRecord
from playground.runs.store import Run
from tasks.byte_text import ByteTextConfig
from tests.fake_runs import write_run

CONFIG = make_config("induction-cpu", n_future=2)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """The stored runs here are in float32; on a GPU a training would be in bfloat16, which is another one."""
    monkeypatch.setattr(existing, "pick_device", lambda name: torch.device("cpu"))


def record(run: str = "a", **changes) -> RunRecord:
    values = {
        "status": "finished",
        "task": "induction",
        "preset": None,
        "n_future": 2,
        "control": "layers",
        "seed": 0,
        "config_hash": "",
        "steps": 700,
        "device": "cpu (2 threads)",
        "created": 1.0,
    }
    return RunRecord(run=run, **(values | changes))


def changed(part: str = "", **fields) -> RunConfig:
    if not part:
        return dataclasses.replace(CONFIG, **fields)
    return dataclasses.replace(CONFIG, **{part: dataclasses.replace(getattr(CONFIG, part), **fields)})


class Stored(Run):
    """A run with known values, without files."""

    def __init__(self, record: RunRecord, values: dict) -> None:
        super().__init__(record.run, record)
        self.values = values


def find(configs: list[RunConfig], *known: tuple[RunRecord, dict]) -> dict[int, str]:
    return find_existing(configs, [Stored(*pair) for pair in known])


def stored(config: RunConfig) -> dict:
    return json.loads(json.dumps(config.resolve(d_vocab=64, n_ctx=64).to_dict()))


@pytest.mark.parametrize(
    ("config", "same"),
    [
        (CONFIG, True),
        (changed(seed=1), False),
        (changed("model", control="trunk"), False),
        (changed("model", n_future=1), False),
        (changed("optim", lr=0.5), False),
        (changed("train", steps=60), False),
        (changed("model", init="normal"), False),
        (changed("train", threads=1), True),
        (changed("train", accumulate=2), True),
        (changed(preset=None), True),
        (changed("train", probes=("attention",)), False),
        (changed("train", probe_points=3), False),
        (changed("train", eval_every=7), False),
    ],
)
def test_the_same_training_is_what_learns_and_stores_the_same(config, same):
    assert find([config], (record(seed=0, n_future=config.model.n_future), stored(CONFIG))) == (
        {0: "a"} if same else {}
    )


def test_n_1_is_one_model_under_every_control():
    one, other = (changed("model", n_future=1, control=control) for control in ("layers", "detached"))
    assert find([other], (record(n_future=1), stored(one))) == {0: "a"}


def test_the_newest_stands_and_places_are_those_of_the_configurations():
    known = [(record("new", created=9.0), stored(CONFIG)), (record("old"), stored(CONFIG))]
    assert find([changed(seed=1), CONFIG, CONFIG], *known) == {1: "new", 2: "new"}


def test_another_precision_is_another_training():
    assert find([CONFIG], (record(device="NVIDIA H200"), stored(CONFIG))) == {}


def test_runs_with_the_initial_weights_of_before_are_others():
    values = stored(CONFIG)
    del values["model"]["init"], values["model"]["init_std"]
    assert find([CONFIG], (record(), values)) == {}


def test_a_text_that_changed_is_another_training(tmp_path, monkeypatch):
    (tmp_path / "text.py").write_text("a = 1\n" * 4000)
    config = dataclasses.replace(
        CONFIG, task=ByteTextConfig(n_ctx=64, path=str(tmp_path), test_fraction=0.5, test_rows=4, quick_rows=2)
    )
    monkeypatch.setattr(existing, "_fingerprint", lambda task: "as it was")
    known = [(record(task="bytes", data_hash="as it was"), stored(config))]
    assert find([config], *known) == {0: "a"}
    monkeypatch.setattr(existing, "_fingerprint", lambda task: "another")
    assert find([config], *known) == {}


def test_only_finished_and_whole_runs_stand_in(tmp_path):
    config = make_config("induction-cpu")
    steps = config.train.steps
    assert existing_runs([config], tmp_path) == {}
    write_run(tmp_path, state="stopped", steps=steps)
    assert existing_runs([config], tmp_path) == {}
    path = write_run(tmp_path, steps=steps)
    assert existing_runs([config], tmp_path) == {0: path.name}
    (path / "config.json").write_text("{")
    assert existing_runs([config], tmp_path) == {}
