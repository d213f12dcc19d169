"""Benchmarks of speed and memory, as ratios of things measured side by side in one process: `python -m benchmarks`."""
