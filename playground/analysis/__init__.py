"""Analysis of stored runs: comparisons, curves, formation times, groups of seeds, statistics. Reads runs; imports no torch."""
