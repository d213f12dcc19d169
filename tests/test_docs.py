"""Pages that show code: the code is run."""

import math
import re

import pytest
import torch

from playground.config import ModelConfig, OptimConfig, RunConfig, TrainConfig
from playground.running.runner import train
from tasks import make_task, register_task
from tasks.registry import _registered
from tests.cases import make_batch, random_tokens, small_model
from tests.probes.no_trace import leaves_no_trace


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


def test_the_probe_of_the_page_measures_and_leaves_no_trace(repository_root):
    page = (repository_root / "docs" / "guides" / "add-a-probe.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names = {"__name__": "playground.probes.prediction_entropy"}
    exec(compile(code, "playground/probes/prediction_entropy.py", "exec"), names)
    model, batch = small_model(n_future=2), make_batch(random_tokens())
    with leaves_no_trace(model):
        result = names["prediction_entropy"](model, batch)
    log_p = model(batch.tokens, (1,))[:, :-1, 0].log_softmax(dim=-1).detach()
    assert result.bits[0] == pytest.approx(-(log_p.exp() * log_p).sum(-1).mean().item() / math.log(2), rel=1e-5)
    assert (result.bits < result.uniform).all() and result.uniform == pytest.approx(math.log2(11))
    assert type(result).from_dict(result.to_dict()).rows()[1]["offset"] == 2
    model.unembed.weight.data.zero_()
    assert names["prediction_entropy"](model, batch).bits == pytest.approx([math.log2(11)] * 2)
