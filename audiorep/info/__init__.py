"""The description that a model carries (labels, rates, windows, front end, provenance), and its checks."""

EMBEDDING = "embedding"
"""The name of every model's last output, the vector that its heads are given; no head has it."""
UNKNOWN = "unknown"
"""What sounds of none of a model's classes are reported as."""
