"""Two processes against one on the same rows: losses, gradient norms and weights; what is exchanged, and how often."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from playground.config import ClampConfig, OptimConfig, RunConfig, TrainConfig
from playground.model.clamp import apply_clamp
from playground.model.transformer import MTPTransformer
from playground.training.distributed import copy_from_first, put_together
from playground.training.loop import TrainState, start_state
from playground.training.objectives.base import target_counts
from playground.training.process_group import current_process_group, joined
from playground.training.step import Learner, PlainStep
from tasks.base import Batch, seeded_generator
from tasks.polynomial import PolynomialConfig
from tasks.registry import make_task
from tests.cases import make_batch, random_tokens, small_config, small_model
from tests.several_processes import on_processes
from tests.training.support import fit_one, rows

SIZE, STEPS, ROWS = 2, 20, 8

TASK = PolynomialConfig(n_ctx=40, max_operations=2, test_operations=2, test_per_m=20, quick_per_m=10)
"""Rows with padding and with different numbers of targets."""

CASES: dict[str, dict[str, Any]] = {
    "ddp, head by head": {},
    "ddp, head by head, in two parts": {"train": {"accumulate": 2}},
    "ddp, one graph": {"train": {"backward": "one_graph"}},
    "ddp, heads that read one another": {"model": {"future_heads": "causal", "unembedding": "replicated"}},
    "ddp, frozen heads": {"clamp": {"freeze_heads": ("blocks.0.1",)}},
    "fsdp": {"train": {"parallel": "fsdp", "backward": "one_graph"}},
    "fsdp, in two parts, layers computed again": {
        "train": {"parallel": "fsdp", "backward": "one_graph", "accumulate": 2, "recompute": True}
    },
    "fsdp, heads that read tokens": {
        "train": {"parallel": "fsdp", "backward": "one_graph"},
        "model": {"future_heads": "sequential"},
    },
    "fsdp, forced patterns": {
        "train": {"parallel": "fsdp", "backward": "one_graph"},
        "clamp": {"force_previous_token": ("blocks.0.0",)},
    },
}


def _config(
    model: dict[str, Any] | None = None, train: dict[str, Any] | None = None, clamp: dict[str, Any] | None = None
):
    return RunConfig(
        task=TASK,
        model=small_config(n_layers=4, n_future=3, d_vocab=make_task(TASK).d_vocab, n_ctx=TASK.n_ctx, **(model or {})),
        optim=OptimConfig(lr=3e-3, warmup_steps=3, clip=0.5),
        train=TrainConfig(steps=STEPS, batch_size=ROWS, **(train or {})),
        clamp=ClampConfig(**(clamp or {})),
    )


def _batches(rank: int) -> list[Batch]:
    """Rows with different numbers of targets."""
    task, generator = make_task(TASK), seeded_generator(100 + rank)
    return [task.sample(ROWS // SIZE, generator, "cpu") for _ in range(STEPS)]


def _train(config: RunConfig, batches: list[Batch]) -> TrainState:
    model = apply_clamp(MTPTransformer(config.model, seeded_generator(1)), config.clamp)
    drawn = iter(batches)
    return fit_one(start_state(model, config, seeded_generator(0)), lambda: next(drawn), config)


def _together(first: Batch, second: Batch) -> Batch:
    names = [
        item.name
        for item in dataclasses.fields(Batch)
        if item.name in ("tokens", "loss_mask", "score_mask", "documents")
    ]
    return Batch(**{name: torch.cat([getattr(first, name), getattr(second, name)]) for name in names})


def _process(rank: int, folder: Path) -> None:
    if rank == 0:
        for number, case in enumerate(CASES.values()):
            batches = [_together(*pair) for pair in zip(_batches(0), _batches(1), strict=True)]
            state = _train(_config(**case), batches)
            _save(state, state.model, state.optimizer, folder / f"{number}-alone.safetensors")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=SIZE)
    with joined():
        for number, case in enumerate(CASES.values()):
            config = _config(**case)
            state = _train(config, _batches(rank))
            kept = start_state(small_model(**vars(config.model)), config, seeded_generator(0))
            put_together(state.model, state.optimizer, (kept.model, kept.optimizer))
            _save(state, kept.model, kept.optimizer, folder / f"{number}-{rank}.safetensors")
        save_file(_reductions(), folder / f"reductions-{rank}.safetensors")
        save_file(_copies(rank), folder / f"copies-{rank}.safetensors")
    dist.destroy_process_group()


def _save(state: TrainState, model: MTPTransformer, optimizer: torch.optim.Optimizer, path: Path) -> None:
    moments = {f"moment of {name}": optimizer.state[one]["exp_avg"] for name, one in model.named_parameters()}
    save_file({"read": rows(state), **_whole(model), **moments}, path)


def _whole(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def _reductions() -> dict[str, Tensor]:
    """How many numbers go through DistributedDataParallel's all-reduces in a step of two parts with four future heads."""
    config = dataclasses.replace(_config(train={"accumulate": 2}), model=small_config(n_layers=5, n_future=4))
    model = small_model(n_layers=5, n_future=4)
    state = start_state(model, config, seeded_generator(0))
    step = PlainStep([Learner(model=model, optimizer=state.optimizer, optim=OptimConfig())], config)
    sizes: list[int] = []

    def count(_state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # pyright: ignore
        sizes.append(bucket.buffer().numel())
        work = dist.all_reduce(bucket.buffer().div_(SIZE), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    step.shared.module.register_comm_hook(None, count)
    step([make_batch(random_tokens(rows=4))], [0.0])
    return {"reduced": torch.tensor(sum(sizes)), "learning": torch.tensor(sum(p.numel() for p in model.parameters()))}


def _copies(rank: int) -> dict[str, Tensor]:
    """A model and its optimizer, other ones on each process, after the first's have been copied."""
    config = _config()
    state = start_state(small_model(seed=rank, **vars(config.model)), config, seeded_generator(0))
    for parameter in state.model.parameters():
        parameter.grad = torch.full_like(parameter, rank + 1.0)
    state.optimizer.step()
    copy_from_first(state.model, {str(i): state.optimizer.state[p] for i, p in enumerate(state.model.parameters())})
    moments = {f"moment {i}": state.optimizer.state[p]["exp_avg"] for i, p in enumerate(state.model.parameters())}
    return _whole(state.model) | moments


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where two processes have left what came out."""
    folder = tmp_path_factory.mktemp("processes")
    on_processes(_process, folder, size=SIZE)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_learns_from_the_rows_of_both(folder, name):
    number = list(CASES).index(name)
    alone, first, second = (load_file(folder / f"{number}-{who}.safetensors") for who in ("alone", 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert alone["read"].shape == (STEPS, 4)  # three offsets and the gradient norm
    for key, expected in alone.items():
        atol = 1e-6 if key.startswith("moment") else 2e-5
        torch.testing.assert_close(first[key], expected, rtol=1e-3, atol=atol)


def test_the_rows_have_different_numbers_of_targets():
    counts = [torch.cat([target_counts(batch, 3) for batch in _batches(rank)]) for rank in range(SIZE)]
    assert (counts[0] != counts[1]).any(dim=1).sum() > STEPS / 2


def test_a_step_reduces_each_gradient_once_however_many_heads_and_parts(folder):
    found = load_file(folder / "reductions-0.safetensors")
    assert found["reduced"] == found["learning"]


def test_weights_and_optimizer_are_copied_from_the_first_process(folder):
    first, second = (load_file(folder / f"copies-{rank}.safetensors") for rank in range(SIZE))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_one_process_alone_is_no_group():
    assert current_process_group() is None
    step = PlainStep(
        [Learner(model=(model := small_model()), optimizer=torch.optim.AdamW(model.parameters()), optim=OptimConfig())],
        _config(),
    )
    assert step.shared is None


def test_sharded_parameters_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match="write --backward one_graph"):
        TrainConfig(parallel="fsdp")
    with pytest.raises(ValueError, match="write parallel 'ddp'"):
        _config(train={"parallel": "fsdp", "backward": "one_graph"}, clamp={"freeze_heads": ("blocks.0.0",)})
