"""Training objectives, one file each: what is minimised, under which names its losses are stored, and what it cannot do.

base.py says what an objective is, registry.py finds them, head_by_head.py computes losses of future heads one after another.
"""
