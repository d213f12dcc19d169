"""Keys of the counters of several processes: what is written is read back, and the stored form stays."""

import pytest

from playground.running.process_keys import process_key, read_process_key


@pytest.mark.parametrize("name", ["generator", "drawn", "a of process 2", "two words"])
@pytest.mark.parametrize("rank", [1, 7, 10, 127])
def test_a_key_is_read_back(name: str, rank: int) -> None:
    assert read_process_key(process_key(name, rank)) == (name, rank)


@pytest.mark.parametrize("key", ["generator", "", " of process 1", "generator of process ", "generator of process 01"])
def test_other_names_are_those_of_the_first_process(key: str) -> None:
    assert read_process_key(key) == (key, 0)


def test_the_stored_form() -> None:
    assert process_key("generator", 1) == "generator of process 1"
