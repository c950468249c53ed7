"""Labels with times from sounds, and the files they are written to."""
