"""Decoding: plain, and self-speculative decoding with the future heads. Exact, with a KV cache, for any batch size."""
