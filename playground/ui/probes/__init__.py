"""The page Probes."""
