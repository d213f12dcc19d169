"""The n-token transformer: layers, model, initial weights, parameter counts."""
