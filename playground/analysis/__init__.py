"""What stored runs say: comparisons, curves, formation, groups of seeds, statistics. It reads runs and imports no torch."""
