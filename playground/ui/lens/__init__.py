"""The page Lens."""
