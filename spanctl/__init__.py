"""Run Prefect flows on Google Cloud Spanner and never wonder what happened."""

__version__ = "0.1.0"
