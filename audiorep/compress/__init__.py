"""Compression: method(model, …) → new model."""
