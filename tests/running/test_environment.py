"""Seeds of the streams of one run, devices, and what a record says of the machine."""

import platform

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from playground.running.environment import describe_device, environment, pick_device
from tasks.base import seeded_generator, stream_seed

SEEDS = st.integers(0, 2**32 - 1)
NAMES = st.sampled_from(["weights", "data", "probe", ""]) | st.text(max_size=6)


@given(SEEDS, NAMES)
def test_a_stream_is_a_seed_that_torch_takes_and_always_the_same(seed, name):
    found = stream_seed(seed, name)
    assert found == stream_seed(seed, name)
    assert 0 <= found < 2**63
    seeded_generator(found)


def test_streams_differ_by_purpose_and_by_seed():
    found = [stream_seed(seed, name) for seed in range(200) for name in ("weights", "data", "probe")]
    assert len(set(found)) == len(found)


def test_streams_of_neighbouring_seeds_draw_unrelated_numbers():
    draws = torch.stack(
        [
            torch.randn(2000, generator=seeded_generator(stream_seed(seed, name)))
            for seed in (0, 1)
            for name in ("weights", "data")
        ]
    )
    correlation = torch.corrcoef(draws) - torch.eye(4)
    assert correlation.abs().max() < 0.1


def test_streams_stay_what_they_are_from_version_to_version():
    """Otherwise a run of yesterday could not be repeated."""
    assert (stream_seed(0, "weights"), stream_seed(1, "data")) == (3699729803252847382, 9050586632871538705)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="torch sees no GPU here; write --device cpu or auto"):
        pick_device("cuda")


@pytest.mark.parametrize(("count", "name"), [(1, "cpu (1 thread)"), (2, "cpu (2 threads)")])
def test_the_cpu_is_named_with_its_threads(count, name):
    assert describe_device(torch.device("cpu"), count) == name


def test_versions_and_commit(repository_root):
    found = environment()
    assert found["versions"].keys() == {"python", "machine", "torch", "numpy", "transformer-lens", "safetensors"}
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]  # which names CUDA's, too
    if (repository_root / ".git").exists():
        assert set(found["commit"].rstrip("+")) <= set("0123456789abcdef") and len(found["commit"]) >= 12
    else:
        assert found["commit"] == ""
