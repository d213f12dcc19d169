"""Keeps reruns fast: Streamlit collects garbage after every rerun, which takes longer the more libraries are loaded.

With PyTorch and TransformerLens in the process one collection takes 0.2 s, once a second while a training is watched. Objects
of libraries are never garbage, so they are moved to the generation that the collector skips (`gc.freeze`).
"""

import gc
import sys

_looked_at = 0


def spare_libraries() -> None:
    """Exclude all live objects from later collections, if modules have been loaded since the last call."""
    global _looked_at
    if len(sys.modules) > _looked_at:
        _looked_at = len(sys.modules)
        gc.collect()
        gc.freeze()
