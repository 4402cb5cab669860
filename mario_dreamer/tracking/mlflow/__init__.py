"""Log a run to MLflow."""
