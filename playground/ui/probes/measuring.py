"""What the Probes page reads and computes: stored results of one probe, and new ones. torch is imported only to compute."""

from dataclasses import dataclass

import streamlit as st

from playground.commands import run_line
from playground.probes.catalogue import Listed
from playground.results import History, Result
from playground.runs.errors import RunError
from playground.runs.probes import probe_file
from playground.runs.reading import bad_lines
from playground.runs.store import Run
from playground.ui.shared.models import Loaded, load_stored, one_at_a_time
from playground.ui.shared.text import code, plain

MOST_COMMAND = 4000


@dataclass(frozen=True, kw_only=True)
class AtStep:
    """The result of a probe on one run at one step."""

    run: Run
    step: int
    result: Result


def has_probe(run: Run, name: str) -> bool:
    """Whether a probe has stored anything; does not read the file."""
    try:
        return probe_file(run.path, name).stat().st_size > 0
    except OSError:
        return False


def history_of(run: Run, probe: Listed) -> History[Result]:
    """The stored results of a run, with a sentence on the page for what cannot be read."""
    found = run.read_history(probe.name, probe.result)
    if found.bad and not found.history.steps:
        st.info(
            f"The stored {plain(probe.name)} of {plain(run.id)} cannot be read: {plain(found.bad[0].problem)}. Another "
            "version may have written it; remove the file from its folder `probes` and measure again.",
            icon=":material/info:",
        )
    elif found.bad:
        st.caption(plain(bad_lines(probe_file(run.path, probe.name), found.bad)))
    return found.history


def measure_button(run: Run, probe: Listed, step: int, *, side: str) -> None:
    """A button that measures the stored model of a step and stores the result; the page is then drawn again."""
    st.caption(f"Not measured at step {step:,}. The result is stored in the run.")
    if st.button("Measure now", key=f"probe-measure-{side}", icon=":material/play_arrow:") and _measure(
        run, probe, step
    ):
        st.rerun()


def how_to_measure(run: Run, probe: Listed) -> str:
    """The command that measures every stored step, or a sentence that this is no longer possible."""
    if run.checkpoints:
        command = run_line("probe", run.path, options=f"--probe {probe.name} --step all")
        return f"{code(command, MOST_COMMAND)} measures its stored steps."
    return (
        "It has no stored weights to measure; a new training measures along with "
        f"{code(f'--probes {probe.name}')}, beside the names of other probes."
    )


def _measure(run: Run, probe: Listed, step: int) -> bool:
    """Whether it was measured and stored; if not, the page says why."""
    loaded = load_stored(run, step)
    if loaded is None:
        return False
    from playground.running.probing import store_measured

    try:
        with st.spinner("Measuring"):
            result = _measured(loaded, probe.name)
            store_measured(run.path, probe.name, result, step=step, tokens=_tokens(run, loaded, step))
    except (ValueError, RunError, OSError) as error:
        sentence = str(error)
        st.info(f"It cannot be measured: {plain(sentence)}.", icon=":material/info:")
        return False
    return True


@one_at_a_time
def _measured(loaded: Loaded, name: str) -> Result:
    from playground.probes.registry import make_probes

    return make_probes([name], loaded.task, loaded.model.n_future)[name](loaded.model)


def _tokens(run: Run, loaded: Loaded, step: int) -> int:
    """Tokens that the run was trained on up to a step."""
    return step * run.values["train"]["batch_size"] * loaded.task.n_ctx
