"""A small part of the campaign, with fixed seeds: as at full size, every part has to find nothing."""

import os
from collections.abc import Iterator

import pytest

from tests.campaign import commands, disk, kills, readers


@pytest.fixture(autouse=True)
def quick(no_shape_checks: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without shape checks, and with the environment put back: pages read the runs folder from it.

    How long a command takes says nothing on a machine that runs other tests: only what hangs is a fault here.
    """
    for module in (readers, commands):
        monkeypatch.setattr(module, "LONGEST", 120.0)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_run_through_all_commands(seed):
    assert list(readers.try_commands(seed)) == []


@pytest.mark.parametrize("first", [0, 1000])
def test_damaged_runs_on_all_pages(first, no_search_for_components):
    assert list(readers.try_pages(range(first, first + 8))) == []


@pytest.mark.parametrize("seed", range(60))
def test_a_random_command_line_is_taken_or_refused_with_one_line(seed):
    assert list(commands.try_command_line(seed)) == []


@pytest.mark.parametrize("seed", range(40))
def test_a_random_configuration_is_taken_or_refused_with_one_line(seed):
    assert list(commands.try_configuration(seed)) == []


@pytest.mark.parametrize("moment", [1, 20, 55, 90])
def test_a_kill_at_a_call_to_the_file_system_costs_nothing(moment):
    assert list(kills.kill_at_call(moment)) == []


@pytest.mark.parametrize("moment", [5, 16, 70])
def test_a_kill_of_a_new_training_at_a_call_costs_nothing(moment):
    assert list(kills.kill_training_at_call(moment)) == []


def test_a_kill_at_a_random_moment_costs_nothing():
    assert list(kills.kill_at_random(0)) == []


@pytest.mark.skipif(not disk.can_mount(), reason="no small disk can be mounted here")
@pytest.mark.parametrize("kilobytes", [8, 100, 250])
def test_a_full_disk_is_one_sentence_and_costs_nothing(kilobytes):
    assert list(disk.fill(kilobytes)) == []
