"""Run Prefect flows on Google Cloud Spanner and never wonder what happened."""

import os

__version__ = "0.1.0"

# Before any Google or Prefect import: the Spanner client would send its bearer token to a
# monitoring host, and Prefect would report its use.
os.environ["SPANNER_DISABLE_BUILTIN_METRICS"] = "true"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
