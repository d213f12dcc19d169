"""Decoding: plain, and self-speculative with the future heads. Exact, cached, any batch size."""
