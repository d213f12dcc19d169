"""The page Probes: two runs side by side, at a step and along training, measured now, and what cannot be read."""

import json
from pathlib import Path

import pytest

from playground.probes.catalogue import all_probes
from playground.results import Behaviour, Copying
from playground.runs.lock import run_lock
from playground.runs.probes import probe_file
from playground.runs.store import Run
from tests.fake_runs import write_run, write_weights
from tests.ui.support import Downloads, array, assert_well, figures, labels, legend, open_page, widget, words


@pytest.fixture
def pair(runs: Path) -> list[Path]:
    return [write_run(runs, n_future=n_future, steps=200) for n_future in (1, 2)]


def test_two_runs_stand_side_by_side_at_their_last_steps(pair: list[Path]) -> None:
    app = open_page("probes", probe="behaviour")
    (figure,) = figures(app).values()
    assert legend(figure)[:2] == ["n = 1, seed 0, step 200", "n = 2, layers, seed 0, step 200"]
    stored = Run(pair[1]).history("behaviour", Behaviour).results[-1]
    assert array(figure["data"][1]["y"]) == pytest.approx(stored.accuracy)
    assert "Loss, accuracy and in-context learning score of every offset." in words(app)
    steps = Run(pair[0]).history("behaviour", Behaviour).steps
    key = f"probe-step-left-{pair[0].name}-behaviour"
    widget(app, key).set_value(steps[1])
    app.run()
    assert_well(app)
    assert f"n = 1, seed 0, step {steps[1]}" in legend(next(iter(figures(app).values())))


def test_along_training_there_is_a_number_to_choose(pair: list[Path]) -> None:
    app = open_page("probes", probe="behaviour", results="along training")
    widget(app, "probe-value-along").set_value("scored accuracy")
    app.run()
    assert_well(app)
    (figure,) = figures(app).values()
    stored = Run(pair[0]).history("behaviour", Behaviour)
    assert array(figure["data"][0]["x"]).tolist() == list(stored.tokens)
    assert array(figure["data"][0]["y"]) == pytest.approx([float(each.accuracy[0]) for each in stored.results])


def test_scores_of_heads_along_training_are_those_of_the_page_heads(pair: list[Path]) -> None:
    app = open_page("probes", probe="task_attention", results="along training")
    (figure,) = figures(app).values()
    assert figure["layout"]["yaxis"]["title"]["text"] == "induction score"
    assert "More on the page Heads" in "".join(labels(app, "page_link"))


def test_what_is_not_measured_can_be_measured_at_a_stored_step(pair: list[Path]) -> None:
    write_weights(pair[0], [200])
    app = open_page("probes", probe="copying")
    assert "has no results of this probe" in words(app)  # the second run has no weights either
    widget(app, "probe-measure-left").click()
    app.run()
    assert_well(app)
    stored = Run(pair[0]).history("copying", Copying)
    assert stored.steps == (200,) and figures(app)
    before = Run(pair[0]).history("behaviour", Behaviour)
    assert stored.tokens == (before.tokens[-1],)


def test_a_run_in_training_is_not_measured(pair: list[Path]) -> None:
    write_weights(pair[0], [200])
    app = open_page("probes", probe="copying")
    with run_lock(pair[0]):
        widget(app, "probe-measure-left").click()
        app.run()
    assert_well(app)
    assert "It cannot be measured: " in words(app) and "is being trained" in words(app)
    assert not probe_file(pair[0], "copying").exists()


def test_unreadable_results_are_named_with_what_to_do(pair: list[Path]) -> None:
    for path in pair:
        probe_file(path, "behaviour").write_text("{}\n")
    app = open_page("probes", probe="behaviour")
    assert words(app).count("remove the file from its folder `probes` and measure again") == 2
    assert not figures(app)


def test_the_table_is_saved_with_run_and_step(pair: list[Path], downloads: Downloads) -> None:
    open_page("probes", probe="behaviour")
    (name,) = (name for name in downloads.names if name.endswith(".csv"))
    header, *lines = downloads[name].splitlines()
    assert header.startswith("run,step,offset,loss") and len(lines) == 3
    assert lines[0].startswith(f"{pair[0].name},200,1,")


def test_every_probe_is_listed_and_opens_without_results(runs: Path) -> None:
    write_run(runs, steps=20)
    app = open_page("probes", probe="lens")
    assert widget(app, "probe").options == list(all_probes())
    assert "a new training measures along with" in words(app)


def test_a_result_of_another_model_is_left_out(pair: list[Path]) -> None:
    file = probe_file(pair[0], "behaviour")
    row = json.loads(file.read_text().splitlines()[-1])
    file.write_text(json.dumps(row | {"loss": [1.0, 2.0]}) + "\n")
    app = open_page("probes", probe="behaviour")
    assert "cannot be read" in words(app)
    assert legend(next(iter(figures(app).values()))) == ["n = 2, layers, seed 0, step 200"]
