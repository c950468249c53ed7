"""Checkpoints and networks that other people made."""
