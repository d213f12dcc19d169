"""Saved figures: what replaces what, and the page that is made from them."""

import doctest
import html.parser
import json
from pathlib import Path

import pytest

from benchmarks import figures, page, sections, timing
from benchmarks.figures import case_of, constants, figure, labels
from benchmarks.page import main, table
from benchmarks.saved import Part, read, replace_rows

GPU = {
    "header": True,
    "device": "NVIDIA H200",
    "cores": 16,
    "processor": "X",
    "versions": {"torch": "2.11"},
    "time": "t",
}
CPU = {**GPU, "device": "cpu (2 threads)", "commit": "abc", "load": 0.1, "memory_gb": 25}
SPREAD = {"value_quartile_low": 2.0, "value_quartile_high": 4.0}
STEP = {
    "module": "train_step",
    "benchmark": "train_step",
    "size": "1M",
    "seed": 0,
    "n_future": 1,
    "against": "plain GPT",
    "value": 3.0,
    **SPREAD,
    "unit": "tokens/s",
    "repeats": 20,
    "baseline_value": 2.0,
    "ratio": 1.5,
    "ratio_quartile_low": 1.4,
    "ratio_quartile_high": 1.6,
    "target": 2.0,
    "target_is": "at least",
}
USED = {
    "module": "train_step",
    "benchmark": "utilization",
    "size": "1M",
    "n_future": 4,
    "value": 3.0,
    **SPREAD,
    "unit": "TFLOP/s",
    "repeats": 20,
    "floor": 6.0,
    "floor_is": "matmul rate",
    "ratio": 0.5,
    "target": 0.45,
    "target_is": "at least",
}
COPY = {
    "module": "floors",
    "benchmark": "floors",
    "what": "copy",
    "value": 3.0,
    **SPREAD,
    "unit": "GB/s",
    "repeats": 20,
}
DRAFTS = {
    "module": "decoding",
    "benchmark": "drafting",
    "n_layers": 10,
    "ms_a_forward": {"plain": 1.25, "one by one": 3.0},
}
SKIPPED = {"module": "app_pages", "benchmark": "app_pages", "skipped": "no <browser> was found"}
NEW = {
    "module": "floors",
    "benchmark": "something_new",
    "models": 8,
    "seeds": [0, 1, 2],
    "value": 5.0,
    "unit": "s",
    "target": 4.0,
    "target_is": "at most",
}


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


# --- saved files -----------------------------------------------------------------------------------------------------


def test_a_later_run_of_a_benchmark_takes_the_place_of_the_earlier_one(tmp_path):
    file = tmp_path / "figures.jsonl"
    first, second = {**CPU, "time": "1"}, {**CPU, "time": "2"}
    replace_rows(file, first, "floors", [COPY])
    replace_rows(file, first, "train_step", [STEP, USED])
    replace_rows(file, second, "floors", [{**COPY, "value": 9.0}])
    assert read(file) == [Part(header=first, rows=(STEP, USED)), Part(header=second, rows=({**COPY, "value": 9.0},))]
    assert [path.name for path in tmp_path.iterdir()] == ["figures.jsonl"]


def test_a_header_without_rows_goes(tmp_path):
    file = write(tmp_path / "figures.jsonl", CPU, COPY)
    replace_rows(file, {**CPU, "time": "2"}, "floors", [COPY])
    assert [part.header["time"] for part in read(file)] == ["2"]


def test_another_device_keeps_its_rows(tmp_path):
    file = write(tmp_path / "figures.jsonl", GPU, COPY)
    replace_rows(file, CPU, "floors", [COPY])
    assert [part.header["device"] for part in read(file)] == ["NVIDIA H200", "cpu (2 threads)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(COPY), "figures.jsonl:1: a row without a header"),
        (json.dumps(CPU) + "\nno json", "figures.jsonl:2: not JSON"),
        ("[1]", "figures.jsonl:1: '.1.' is not a JSON object"),
    ],
)
def test_a_broken_file_says_which_line(tmp_path, text, message):
    file = tmp_path / "figures.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(file)


# --- figures ---------------------------------------------------------------------------------------------------------


def test_a_case_is_what_stands_before_the_measured():
    assert case_of(STEP) == {"size": "1M", "n_future": 1, "against": "plain GPT"}
    assert case_of(DRAFTS) == {"n_layers": 10}


def test_labels_leave_out_what_all_cases_share():
    rows = [STEP, {**STEP, "against": "TransformerLens"}]
    assert constants(rows) == {"size": "1M", "n_future": 1}
    assert labels(rows) == ["against plain GPT", "against TransformerLens"]
    assert labels([STEP]) == ["1M, n = 1, against plain GPT"]


def test_a_ratio_is_drawn_with_its_quartiles_and_target():
    dots, target = figure([STEP]).data
    assert (dots.x, dots.error_x.array, dots.error_x.arrayminus) == (
        (1.5,),
        (pytest.approx(0.1),),
        (pytest.approx(0.1),),
    )
    assert target.x == (2.0,)


def test_a_row_with_a_floor_is_a_bar_beside_it():
    drawn = figure([USED])
    bar, target = drawn.data
    assert bar.x == (3.0,) and bar.text == (" 50%",)
    assert target.x == (pytest.approx(0.45 * 6.0),)
    assert drawn.layout.shapes[0].x0 == 6.0
    assert "6 TFLOP/s = 100%" in drawn.layout.annotations[0].text


def test_each_unit_has_a_panel():
    drawn = figure([COPY, {**COPY, "what": "matmul", "unit": "TFLOP/s"}])
    assert [drawn.layout.xaxis.title.text, drawn.layout.xaxis2.title.text] == ["GB/s", "TFLOP/s"]


def test_lowest_and_highest_are_a_spread_too():
    (dots,) = figure(
        [{"benchmark": "decoding", "batch": 1, "ratio": 3.0, "ratio_lowest": 2.5, "ratio_highest": 3.25}]
    ).data
    assert (dots.error_x.arrayminus, dots.error_x.array) == ((0.5,), (0.25,))


def test_rows_without_figures_have_no_figure():
    assert figure([DRAFTS]) is None


# --- the page --------------------------------------------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """Which elements a page opens and does not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def made(tmp_path):
    gpu = write(tmp_path / "gpu.jsonl", GPU, COPY, STEP, USED, SKIPPED, NEW)
    cpu = write(tmp_path / "cpu.jsonl", CPU, COPY, DRAFTS, {**CPU, "quick": True}, {**STEP, "target_is": "at most"})
    main([str(gpu), str(cpu), "--out", str(tmp_path / "page.html")])
    return (tmp_path / "page.html").read_text()


def test_the_page_has_a_section_for_each_benchmark_and_a_block_for_each_machine(made):
    tags = Tags(made)
    assert not tags.open and len(set(tags.ids)) == len(tags.ids)
    wanted = {"floors", "train_step", "utilization", "app_pages", "drafting", "something_new", "floors-0", "floors-1"}
    assert wanted <= set(tags.ids)
    assert made.count("<h3>NVIDIA H200</h3>") == 5


def test_the_page_is_small_and_names_plotly_by_address(made):
    assert len(made) < 100_000
    assert 'src="https://cdn.plot.ly/plotly-' in made and "integrity=" in made


def test_the_page_says_what_was_measured_on_what(made):
    for text in (
        "repeats: 20; seed: 0",
        "torch 2.11",
        "commit abc",
        "[2, 4]",
        "no &lt;browser&gt; was found",
    ):
        assert text in made
    assert "≥ 2, missed" in made and "≤ 2, met" in made
    assert made.count("these figures are not meaningful") == 1


def test_a_benchmark_without_words_has_its_modules_docstring(made):
    assert "Something new" in made
    assert "copies memory and multiplies matrices" in made


def test_the_page_can_hold_plotly_itself(tmp_path):
    file = write(tmp_path / "gpu.jsonl", GPU, COPY)
    main([str(file), "--out", str(tmp_path / "page.html"), "--embed"])
    assert len((tmp_path / "page.html").read_text()) > 1_000_000


def test_a_table_holds_numbers_lists_and_what_is_missing():
    shown = table([DRAFTS, {**DRAFTS, "n_layers": 5, "ms_a_forward": None, "rates": [0.5, 0.25]}])
    assert "plain 1.25, one by one 3" in shown and "0.5, 0.25" in shown and "<td></td>" in shown


def test_a_missing_file_is_an_error_of_the_command(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "page.html")])
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("module", [figures, page, sections, timing], ids=lambda module: module.__name__)
def test_examples_give_what_they_say(module):
    assert not doctest.testmod(module).failed


def test_the_page_in_the_documentation_is_that_of_the_lines_beside_it(tmp_path):
    docs = Path(__file__).parents[1] / "docs"
    files = [str(docs / "benchmarks" / f"{name}.jsonl") for name in ("cpu", "h200")]
    main([*files, "--out", str(tmp_path / "page.html")])
    again = "python -m benchmarks.page docs/benchmarks/cpu.jsonl docs/benchmarks/h200.jsonl --out docs/benchmarks.html"
    assert (tmp_path / "page.html").read_text() == (docs / "benchmarks.html").read_text(), f"write it again: {again}"
