"""Small transformers that predict several tokens ahead, and tools to look into them."""
