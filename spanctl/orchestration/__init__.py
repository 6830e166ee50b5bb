"""Prefect's REST API: inspect and start runs, without importing prefect."""
