"""Looking into a model: each probe takes a model and gives a frozen numpy result, and leaves no trace."""
