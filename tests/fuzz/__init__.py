"""Mutated files of every kind that audiorep reads: each is used rightly or refused in a sentence (`make fuzz`)."""
