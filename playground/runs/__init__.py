"""Stored runs: a folder per run that explains itself. Written whole or not at all, read without unpickling anything."""
