"""Studies: a question, the trainings that answer it, and the answer with its uncertainty."""
