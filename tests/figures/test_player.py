"""Play, pause and the slider."""

from playground.figures.player import player


def test_play_goes_through_all_frames_and_pause_stops():
    (menu,) = player(["0", "20"], ["0", "20"], "step ", 300, 50)["updatemenus"]
    play, pause = menu["buttons"]
    assert (play["label"], play["method"], play["args"][0]) == ("Play", "animate", None)
    assert play["args"][1]["fromcurrent"] is False and play["args"][1]["frame"]["duration"] > 0
    assert (pause["label"], pause["args"][0], pause["args"][1]["mode"]) == ("Pause", [None], "immediate")


def test_the_slider_stands_at_the_last_frame():
    (slider,) = player(["0", "2000"], ["0", "2,000"], "training step ", 300, 50)["sliders"]
    assert slider["active"] == 1
    assert [step["label"] for step in slider["steps"]] == ["0", "2,000"]
    assert [step["args"][0] for step in slider["steps"]] == [["0"], ["2000"]]
    assert slider["currentvalue"]["prefix"] == "training step "


def test_it_stands_below_the_plot_whatever_its_height():
    for height in (100, 1000):
        (slider,) = player(["0"], ["0"], "", height, 50)["sliders"]
        assert slider["y"] * height == -50


def test_no_frames_no_steps():
    (slider,) = player([], [], "", 100, 50)["sliders"]
    assert slider["active"] == 0 and slider["steps"] == []
