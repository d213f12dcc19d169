"""Stored runs: one self-explanatory folder per run. Files are written completely or not at all, and read without pickle."""
