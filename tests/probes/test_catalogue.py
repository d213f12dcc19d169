"""The list of probes: what is found without running a file, and what a file that cannot be read is answered."""

import subprocess
import sys
from pathlib import Path

import pytest

import playground.probes as package
from playground.probes import catalogue
from playground.probes.catalogue import all_probes, find_probe
from playground.probes.probe import Probe
from playground.probes.registry import make_probes, register_probe
from playground.results import Behaviour, Result
from tasks import make_task
from tests.conftest import ROOT

SHIPPED = (
    "ablation direct_ablation induction_after_ablation agreement attention task_attention behaviour composition copying "
    "gradients knockout lens linear patch_positions patch_heads patch_heads_match path_patching"
).split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One more folder of the package `playground.probes`, in the place of a file that is put into it."""
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    return tmp_path


def test_all_shipped_probes_are_found_in_the_order_of_their_files() -> None:
    assert list(all_probes()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_read_from_the_source_is_what_the_module_declares(name: str) -> None:
    listed = find_probe(name)
    declared = listed.declared()
    assert isinstance(declared, Probe)
    for key in ("name", "summary", "result", "figure", "figure_along"):
        assert getattr(listed, key) is getattr(declared, key) or getattr(listed, key) == getattr(declared, key)
    assert issubclass(listed.result, Result)


def test_listing_and_reading_results_import_no_torch() -> None:
    code = (
        "import sys\nfrom playground.probes.catalogue import all_probes\n"
        "print([(p.name, p.result, p.figure, p.figure_along) for p in all_probes().values()])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "path_patching" in done.stdout


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"there is no probe 'copyng'; did you mean 'copying'\?"):
        find_probe("copyng")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("PROBE = Probe(name=NAME, summary='s')", r"own.py, line 1: the probe has no name in quotes"),
        ("PROBE = Probe(name='x')", r"own.py, line 1: the probe has no summary in quotes"),
        ("PROBE = (1,)", "the probe has no name in quotes"),
        ("PROBE = Probe(name='../x', summary='s')", r"named '\.\./x'; write letters, digits and underscores"),
        ("PROBE = Probe(name='lens', summary='s')", "the probe lens is declared in .*lens and in .*own"),
    ],
)
def test_a_declaration_that_cannot_be_read_is_named_with_its_place(folder: Path, source: str, message: str) -> None:
    (folder / "own.py").write_text(source)
    with pytest.raises(ValueError, match=message):
        all_probes()


def test_a_changed_file_is_read_again(folder: Path) -> None:
    file = folder / "own.py"
    file.write_text("# PROBE comes later")
    assert "own" not in all_probes()
    file.write_text("PROBE = Probe(name='own', summary='Measures something.', result=Copying)")
    assert find_probe("own").summary == "Measures something."


def test_a_probe_from_elsewhere_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_registered", {})
    behaviour = find_probe("behaviour").declared()
    own = Probe(name="own", summary="As behaviour.", result=Behaviour, make=behaviour.make)
    register_probe(own)
    register_probe(own)  # once more, as when a notebook cell runs again
    assert list(all_probes()) == [*SHIPPED, "own"] and find_probe("own").result is Behaviour
    assert find_probe("own").figure is None
    assert set(make_probes(["own"], make_task("induction"), 1)) == {"own"}
    with pytest.raises(ValueError, match=r"'lens' is taken by playground\.probes\.lens"):
        register_probe(Probe(name="lens", summary="Other.", result=Behaviour, make=behaviour.make))
