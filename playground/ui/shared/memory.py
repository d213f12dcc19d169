"""Keeping reruns fast: Streamlit collects garbage after every run, and that takes the longer the more libraries are loaded.

With PyTorch and TransformerLens in the process one collection takes 0.2 s, once a second while a training is watched.
What libraries hold is never garbage, so it is put where the collector does not look.
"""

import gc
import sys

_looked_at = 0


def spare_libraries() -> None:
    """Leave out of later collections all that is alive now, when modules have been loaded since the last call."""
    global _looked_at
    if len(sys.modules) > _looked_at:
        _looked_at = len(sys.modules)
        gc.collect()
        gc.freeze()
