"""Probes: each takes a model, returns a frozen numpy result, and leaves the model unchanged (hooks, mode, gradients)."""
