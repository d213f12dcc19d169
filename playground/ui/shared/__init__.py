"""Parts that several pages use: choosers of runs and models, charts, words, error handling, the server."""
