"""Every probe on contexts of a few tokens: it measures, or says in one sentence before anything is trained why it cannot."""

from pathlib import Path

import pytest

from playground.config import TrainConfig
from playground.model.transformer import MTPTransformer
from playground.probes.catalogue import all_probes
from playground.probes.registry import make_probes
from tasks.base import Task, TaskConfig
from tasks.byte_text import ByteTextConfig
from tasks.induction import InductionConfig
from tasks.polynomial import PolynomialConfig
from tasks.registry import make_task
from tests.cases import small_config

pytestmark = pytest.mark.usefixtures("no_shape_checks")


def bytes_of(n_ctx: int) -> TaskConfig:
    """Its text is laid where `task_of` says."""
    return ByteTextConfig(n_ctx=n_ctx, test_rows=32, quick_rows=32)


def repeats(n_ctx: int) -> TaskConfig:
    return InductionConfig(n_ctx=n_ctx, d_vocab=5, min_distance=1, max_distance=n_ctx - 2, test_rows=32, quick_rows=32)


SMALLEST = PolynomialConfig(
    n_ctx=6, prime=2, coefficients=1, max_operations=1, test_operations=1, test_per_m=10, quick_per_m=10
)
CASES: dict[str, tuple[TaskConfig, int]] = {
    f"{config.name}-{config.n_ctx} n{n_future}": (config, n_future)
    for config, n_future in [
        (bytes_of(2), 1),
        (bytes_of(3), 2),
        (bytes_of(4), 3),
        (repeats(3), 1),
        (repeats(4), 3),
        (SMALLEST, 4),
    ]
}
"""Task and n_future."""
NEED_REPEATS = ("patch_positions", "patch_heads", "patch_heads_match", "path_patching")
"""Probes whose rows are pairs: such short rows hold no token that says again what an earlier one said."""


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, MTPTransformer]:
    config, n_future = CASES[request.param]
    if isinstance(config, ByteTextConfig):
        config = ByteTextConfig(**(vars(config) | {"path": str(text_in(tmp_path_factory.mktemp("text")))}))
    task = make_task(config)
    sizes = {"n_layers": n_future + 2, "n_future": n_future, "d_vocab": task.d_vocab, "n_ctx": task.n_ctx}
    return task, MTPTransformer(small_config(**sizes))


def text_in(folder: Path) -> Path:
    (folder / "text.txt").write_text("x = 1\ny = x + 2\nfor i in range(3): print(i)\n" * 40)
    return folder


@pytest.fixture(autouse=True)
def few_n_grams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on few tokens: how many makes no difference here, but for the time."""
    monkeypatch.setattr("playground.probes.linear.COUNTED", 1 << 12)


@pytest.mark.parametrize("name", all_probes())
def test_a_probe_measures_or_is_refused_when_it_is_made(name, case):
    task, model = case
    try:
        measure = make_probes((name,), task, model.n_future)[name]
    except ValueError as error:
        assert name in NEED_REPEATS
        assert str(error).startswith(f"the probe {name} cannot be used here: in none of the ")
        assert "\n" not in str(error)
        return
    result = measure(model)
    assert isinstance(result, all_probes()[name].result)
    assert type(result).from_dict(result.to_dict()).to_dict() == result.to_dict()


def test_training_runs_its_own_probes_on_every_context():
    assert not set(TrainConfig().probes) & set(NEED_REPEATS)
