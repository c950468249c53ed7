"""Sounds to labels with times, and the files that hold them."""
