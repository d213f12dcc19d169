"""What is fast and what it costs, as ratios of things measured side by side in one run: `python -m benchmarks`."""
