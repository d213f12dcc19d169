"""Pages that show code: the code is run."""

import importlib
import math
import re
import shutil
import sys

import pytest
import torch
from streamlit.testing.v1 import AppTest

import playground.probes
from playground.cli import main
from playground.config import ModelConfig, OptimConfig, RunConfig, TrainConfig
from playground.running.runner import train
from playground.runs.store import load_run
from tasks import make_task, register_task
from tasks.registry import _registered
from tests.cases import make_batch, random_tokens, small_model
from tests.fake_runs import write_run
from tests.probes.no_trace import leaves_no_trace
from tests.ui.support import PATIENCE, array, assert_well, figures, open_page, widget, words


@pytest.fixture
def parity(repository_root):
    page = (repository_root / "docs" / "guides" / "add-a-task.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names = {"__name__": "tasks.parity"}
    exec(compile(code, "tasks/parity.py", "exec"), names)
    register_task(names["CONFIG"], names["TASK"])
    yield names["CONFIG"]
    _registered.pop("parity")


def test_the_task_of_the_page_samples_scores_and_trains(parity, tmp_path):
    task = make_task("parity", n_ctx=8)
    tokens = task.sample(50, torch.Generator().manual_seed(0)).tokens
    assert torch.equal(tokens[:, 4:], tokens[:, :4].cumsum(dim=1) % 2)

    def knows(tokens, offsets):
        answer = torch.cat([torch.zeros(len(tokens), 4, dtype=torch.long), tokens[:, :4].cumsum(dim=1) % 2], dim=1)
        return torch.nn.functional.one_hot(answer.roll(-1, dims=1), 2)[:, :, None].float()

    assert task.evaluate(knows).scores[0].value == 1.0
    config = RunConfig(
        task=parity(n_ctx=8),
        model=ModelConfig(n_layers=2, d_model=32, n_heads=2),
        optim=OptimConfig(lr=3e-3, warmup_steps=10),
        train=TrainConfig(steps=60, eval_every=30),
    )
    run = train(config, tmp_path)
    assert run.record.scores[0].name == "parity_accuracy"
    assert run.record.final["parity_accuracy"] > 0.55
    with pytest.raises(ValueError, match="write an even number"):
        parity(n_ctx=5)


@pytest.fixture
def entropy(repository_root, tmp_path, monkeypatch):
    """The file of the page, in a folder that is one more of the package: no other file is changed."""
    folder = tmp_path / "probes"
    folder.mkdir()
    (folder / "prediction_entropy.py").write_text(python_of(repository_root / "docs" / "guides" / "add-a-probe.md"))
    monkeypatch.setattr(playground.probes, "__path__", [*playground.probes.__path__, str(folder)])
    yield importlib.import_module("playground.probes.prediction_entropy")
    sys.modules.pop("playground.probes.prediction_entropy")
    vars(playground.probes).pop("prediction_entropy", None)


def python_of(page):
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return code


def test_the_probe_of_the_page_measures_and_leaves_no_trace(entropy):
    model, batch = small_model(n_future=2), make_batch(random_tokens())
    with leaves_no_trace(model):
        result = entropy.prediction_entropy(model, batch)
    log_p = model(batch.tokens, (1,))[:, :-1, 0].log_softmax(dim=-1).detach()
    assert result.bits[0] == pytest.approx(-(log_p.exp() * log_p).sum(-1).mean().item() / math.log(2), rel=1e-5)
    assert (result.bits < result.uniform).all() and result.uniform == pytest.approx(math.log2(11))
    assert type(result).from_dict(result.to_dict()).rows()[1]["offset"] == 2
    model.unembed.weight.data.zero_()
    assert entropy.prediction_entropy(model, batch).bits == pytest.approx([math.log2(11)] * 2)


def test_the_probe_of_the_page_is_listed_stored_run_along_training_and_shown(entropy, tmp_path, monkeypatch, capsys):
    runs = tmp_path / "runs"
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(runs))
    assert main(["probe", "--probe", "list"]) == 0
    assert "Entropy of the predictions of each offset" in capsys.readouterr().out

    options = "--preset induction-cpu --n-future 2 --steps 4 --probe-points 2 --batch-size 4 --threads 1 --run-id along"
    assert main(["train", *options.split(), "--probes", "prediction_entropy"]) == 0
    along = load_run(runs / "along").history("prediction_entropy", entropy.PredictionEntropy)
    assert along.steps[0] == 0 and along.steps[-1] == 4 and len(along.results[0].bits) == 2
    (runs / "along" / "probes" / "prediction_entropy.jsonl").unlink()
    assert main(["probe", "along", "--probe", "prediction_entropy", "--step", "all", "--device", "cpu"]) == 0
    stored = load_run(runs / "along").history("prediction_entropy", entropy.PredictionEntropy)
    assert stored.results[-1].bits == pytest.approx(along.results[-1].bits, rel=1e-3)

    app = open_page("probes", probe="prediction_entropy")
    assert "Entropy of the predictions of each offset, in bits." in words(app)
    (figure,) = figures(app).values()
    assert array(figure["data"][0]["y"]) == pytest.approx(stored.results[-1].bits, rel=1e-3)
    assert {trace["name"] for trace in figure["data"]} == {
        "n = 2, layers, seed 0, step 4",
        "n = 2, layers, seed 0, step 4: uniform guess",
    }
    widget(app, "results").set_value("along training")
    app.run()
    assert_well(app)
    (figure,) = figures(app).values()
    assert [trace["name"] for trace in figure["data"]] == ["offset 1", "offset 2", "uniform guess, largest"]


def test_the_page_of_the_guide_works_in_a_copy_of_the_app(repository_root, tmp_path, monkeypatch):
    page = repository_root / "docs" / "guides" / "add-a-page.md"
    (line,) = re.findall(r"```text\n +(st\.Page.*?)\n```", page.read_text())
    folder = tmp_path / "copy"
    shutil.copytree(repository_root / "playground" / "ui", folder / "playground" / "ui")
    (folder / "playground" / "ui" / "lengths.py").write_text(python_of(page))
    app_file = (repository_root / "app.py").read_text()
    last = next(row for row in app_file.splitlines() if 'title="About"' in row)
    (folder / "app.py").write_text(app_file.replace(last, f"{last}\n            {line}"))
    monkeypatch.setenv("PLAYGROUND_RUNS_DIR", str(tmp_path / "runs"))
    path = write_run(tmp_path / "runs", steps=20)
    app = AppTest.from_file(str(folder / "app.py"), default_timeout=PATIENCE)
    app = app.switch_page("playground/ui/lengths.py").run()
    assert_well(app)
    assert app.title[0].value == "Lengths"
    assert app.dataframe[0].value.to_dict("records") == [{"run": path.name, "n": 1, "steps": 20}]
