"""The description that a model carries (labels, rates, windows, front end, provenance), and its checks."""
