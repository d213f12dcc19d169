"""Presets, the runner that stores what training does, statistics over runs, and the launcher of many runs."""
