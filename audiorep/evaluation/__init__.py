"""Metrics of models on labelled clips, models compared, and pictures of both."""
