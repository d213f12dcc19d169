"""The n-token loss, the optimizer, the loop and evaluation. Knows nothing of stored runs, figures or pages."""
