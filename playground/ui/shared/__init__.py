"""What several pages use: choosers of runs and models, charts, words, guards, the server."""
