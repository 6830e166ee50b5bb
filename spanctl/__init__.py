"""Run Prefect flows on Google Cloud Spanner and never wonder what happened."""

import os

__version__ = "0.1.0"

# Before any Google or Prefect import: the Spanner client would send its bearer token to a
# monitoring host, and Prefect would report its use.
os.environ["SPANNER_DISABLE_BUILTIN_METRICS"] = "true"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
# Read once, when Google's libraries are imported: they would log requests, bearer tokens included,
# and secrets.
for _name in ("GRPC_TRACE", "GOOGLE_SDK_PYTHON_LOGGING_SCOPE"):
    os.environ.pop(_name, None)
if os.environ.get("GRPC_VERBOSITY", "NONE") not in {"NONE", "ERROR"}:
    os.environ["GRPC_VERBOSITY"] = "ERROR"
