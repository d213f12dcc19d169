"""The n-token loss, the optimizer, the step, the loop and evaluation. Imports no stored runs, figures or pages."""
