"""What a model says of itself, and every check of it."""
