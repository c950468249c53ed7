"""Collections of sounds by what a model hears in them: an index of embeddings, and the search in it."""
