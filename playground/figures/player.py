"""Play, pause and a slider over a figure's frames."""

from collections.abc import Sequence
from typing import Any

PLAYER_HEIGHT = 96
"""Height of the player below the axis titles, in pixels."""
WHOLE = 4000
"""Duration of playing from the first frame to the last, in milliseconds."""


def player(names: Sequence[str], labels: Sequence[str], prefix: str, plot_height: float, below: int) -> dict[str, Any]:
    """Layout entries of the player for frames `names`, `below` pixels under a plot `plot_height` high; starts at the last."""
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    playing = {
        **still,
        "fromcurrent": False,
        "frame": {"duration": max(40, WHOLE // max(1, len(names))), "redraw": True},
    }
    under = -below / plot_height
    slider = {
        "active": max(0, len(names) - 1),
        "x": 0,
        "len": 1,
        "y": under,
        "yanchor": "top",
        "pad": {"t": 28, "l": 4, "r": 4},
        "currentvalue": {"prefix": prefix, "xanchor": "right"},
        "steps": [
            {"label": label, "method": "animate", "args": [[name], still]}
            for name, label in zip(names, labels, strict=True)
        ],
    }
    buttons = [
        {"label": "Play", "method": "animate", "args": [None, playing]},
        {"label": "Pause", "method": "animate", "args": [[None], still]},
    ]
    menu = {
        "type": "buttons",
        "direction": "right",
        "x": 0,
        "xanchor": "left",
        "y": under,
        "yanchor": "top",
        "showactive": False,
        "buttons": buttons,
        "bgcolor": "rgba(128, 136, 144, 0.15)",
        "pad": {"t": 8},
    }
    return {"sliders": [slider], "updatemenus": [menu]}
