"""Cores and threads: what is wanted, what OMP_NUM_THREADS allows, and shares among trainings and torchrun's processes."""

import os

import pytest

from playground.running import cores as module
from playground.running.cores import cores, threads


@pytest.fixture(autouse=True)
def twelve_cores(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 12)
    for name in ("OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def test_cores_are_those_of_the_machine_or_fewer():
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_threads_are_those_wanted_or_one_for_each_core(monkeypatch):
    assert (threads(3), threads(3, side_by_side=4), threads(None)) == (3, 3, 12)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads(3) == 3


@pytest.mark.parametrize(("side_by_side", "each"), [(1, 12), (2, 6), (5, 2), (12, 1), (100, 1)])
def test_trainings_side_by_side_share_the_cores(side_by_side, each):
    assert threads(None, side_by_side=side_by_side) == each


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1),
        ("4", 4),
        (" 3 ", 3),
        ("4,2", 4),
        ("64", 12),
        ("0", 12),
        ("", 12),
        ("all", 12),
        ("-1", 12),
        ("1.5", 12),
    ],
)
def test_the_usual_variable_limits_them(monkeypatch, value, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads(None) == expected
    assert threads(None, side_by_side=12) == 1


def test_torchruns_processes_share_the_cores_whatever_the_variable_says(monkeypatch):
    variables = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (threads(None), threads(5)) == (6, 5)
