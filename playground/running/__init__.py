"""Training, resuming, probing and decoding of whole runs: presets, runner, jobs, replicas, processes."""
