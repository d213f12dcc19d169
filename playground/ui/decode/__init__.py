"""The page Decode."""
