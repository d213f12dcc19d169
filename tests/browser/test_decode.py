"""The player of the page Decode in a real browser: forwards one by one, all at once, by a click on a token, played."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from playground.runs.checkpoint import MANIFEST, WEIGHTS
from tests.browser_support import AppServer
from tests.fake_runs import write_run, write_weights

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
SETTLED = 60_000
TOO_WIDE = """() => [document.documentElement, ...document.querySelectorAll('[data-testid=stApp], [data-testid=stMain]')]
    .filter(box => box.scrollWidth > box.clientWidth).length"""
NEW = 9


@pytest.fixture
def runs(app_server: AppServer) -> Iterator[Path]:
    """The server's folder of runs with one for n = 4 that refuses all drafts and one that accepts all."""
    for path in app_server.runs.iterdir():
        shutil.rmtree(path)
    for created, seed in enumerate((0, 1)):
        write_weights(
            write_run(app_server.runs, n_future=4, control="trunk", steps=40, seed=seed, created=created), (40,)
        )
    weights = next(app_server.runs.glob("*-s1-*")) / "checkpoints" / "40" / WEIGHTS
    tensors = load_file(weights)
    save_file({name: 0 * tensor if name == "unembed.weight" else tensor for name, tensor in tensors.items()}, weights)
    (weights.parent / MANIFEST).unlink()  # its checksum is of the weights before
    yield app_server.runs
    for path in app_server.runs.iterdir():
        shutil.rmtree(path)


def settled(page: Any) -> None:
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=SETTLED)


@pytest.fixture
def page(browser_page: Any, runs: Path, app_server: AppServer) -> Any:
    """The page, with the run that accepts everything and nine new tokens."""
    browser_page.goto(f"{app_server.url}/decode")
    expect(browser_page.locator(".dt-root")).to_be_visible(timeout=SETTLED)
    settled(browser_page)
    field = browser_page.get_by_role("spinbutton", name="New tokens")
    field.fill(str(NEW))
    field.press("Enter")
    expect(browser_page.locator(".dt-text").first.locator(".dt-word")).to_have_count(NEW)
    settled(browser_page)
    return browser_page


def clock(page: Any) -> Any:
    return page.locator(".dt-clock")


def test_every_forward_can_be_looked_at(page: Any) -> None:
    expect(page.get_by_text("plain and speculative decoding wrote")).to_contain_text(
        "the same 9 tokens, the latter in 2 forwards in place of 8."
    )
    players = page.locator(".dt-tree")
    expect(players).to_have_count(1)
    expect(clock(page)).to_have_text("forward 1 of 8")
    expect(players.locator(".dt-accepted")).to_have_count(3)
    expect(page.locator(".dt-said")).to_contain_text("4 tokens in one forward.")
    speculative = page.locator(".dt-text").nth(1)
    expect(speculative.locator(".dt-word.dt-now")).to_have_count(4)
    expect(speculative.locator(".dt-word.dt-later")).to_have_count(4)
    page.get_by_role("button", name="Next forward").click()
    expect(clock(page)).to_have_text("forward 2 of 8")
    expect(page.get_by_text("All 9 tokens, after 2 forwards after the prefill.")).to_be_visible()
    expect(page.get_by_text("After 2 of its 8 forwards: 3 of 9 tokens.")).to_be_visible()
    page.locator(".dt-text").first.locator(".dt-word").nth(5).click()
    expect(clock(page)).to_have_text("forward 5 of 8")
    page.locator(".dt-line").first.click()
    expect(clock(page)).to_have_text("prefill, of 8")
    expect(page.locator(".dt-said")).to_contain_text("Nothing was drafted yet.")
    slider = page.get_by_role("slider", name="Forward")
    slider.press("ArrowRight")
    expect(clock(page)).to_have_text("forward 1 of 8")
    page.get_by_role("button", name="Play all forwards").click()
    expect(clock(page)).to_have_text("forward 8 of 8", timeout=SETTLED)
    expect(page.get_by_role("button", name="Play all forwards")).to_be_visible()


def test_refused_drafts_are_struck_out_beside_the_run_that_accepts_all(page: Any) -> None:
    page.get_by_role("combobox", name="Beside it").click()
    page.keyboard.type("seed 0")
    page.keyboard.press("Enter")
    expect(page.locator(".dt-text")).to_have_count(4)
    refused = page.locator(".dt-tree").nth(1)
    expect(refused.locator(".dt-refused")).to_have_count(1)
    expect(refused.locator(".dt-unreached")).to_have_count(2)
    expect(refused.locator(".dt-refused b")).to_have_css("text-decoration-line", "line-through")
    expect(page.locator(".dt-said").nth(1)).to_contain_text(
        re.compile(r"Refused: offset 2’s ‘\d+’; offset 1 predicted ‘\d+’ instead")
    )
    settled(page)
    page.set_viewport_size({"width": 820, "height": 900})
    assert page.evaluate(TOO_WIDE) == 0


def test_a_rerun_leaves_the_player_where_it_stands_and_another_prompt_does_not(page: Any) -> None:
    page.get_by_role("button", name="Next forward").click()
    page.get_by_text("White background").click()
    settled(page)
    expect(clock(page)).to_have_text("forward 2 of 8")
    page.get_by_role("radio", name="Own text").click()
    expect(page.get_by_role("textbox", name="Prompt")).to_be_visible()
    box = page.get_by_role("textbox", name="Prompt")
    box.fill("1 2 cat")
    box.press("Control+Enter")
    expect(page.get_by_text("word 3, 'cat', is no token of this task")).to_be_visible()
    expect(box).to_have_value("1 2 cat")
    box.fill("1 2 3")
    box.press("Control+Enter")
    expect(page.locator(".dt-prompt").nth(1)).to_have_text("1 2 3 ")
    expect(clock(page)).to_have_text("forward 1 of 8")
