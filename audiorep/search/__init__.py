"""Settings searched for two ends at once, validation accuracy and cost, on Optuna."""
