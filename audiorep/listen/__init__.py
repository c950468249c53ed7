"""Live sound: sources, what arrives from them, and the events that a model hears in it."""
