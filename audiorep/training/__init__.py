"""From labelled clips to a trained, evaluated and documented checkpoint."""
