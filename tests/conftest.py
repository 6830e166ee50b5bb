"""What every test stands on: an environment of its own, and no way out of the machine."""

import os
import signal
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Read once, at import, by Typer, Prefect and Google's client: so set before anything is imported.
_HOME = tempfile.TemporaryDirectory(prefix="spanctl-tests-")
for _name in [*os.environ]:
    if _name.startswith(("SPANCTL_", "PREFECT_", "SPANNER_", "GOOGLE_")) or _name in {
        "CLICOLOR_FORCE",
        "COLUMNS",
        "FORCE_COLOR",
        "GITHUB_ACTIONS",
        "NO_COLOR",
        "PY_COLORS",
        "TTY_COMPATIBLE",
        "TTY_INTERACTIVE",
    }:
        del os.environ[_name]
os.environ.update(
    {
        "_TYPER_FORCE_DISABLE_TERMINAL": "1",
        "TERMINAL_WIDTH": "80",
        "TZ": "UTC",
        "DO_NOT_TRACK": "1",
        "HOME": _HOME.name,
        "XDG_CONFIG_HOME": f"{_HOME.name}/config",
        "XDG_STATE_HOME": f"{_HOME.name}/state",
        "PREFECT_HOME": f"{_HOME.name}/prefect",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "SPANNER_DISABLE_BUILTIN_METRICS": "true",
        "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS": "false",
        "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS_FOR_RW": "false",
        "GOOGLE_CLOUD_SPANNER_MULTIPLEXED_SESSIONS_PARTITIONED_OPS": "false",
    }
)

# Shells start what runs in the background with SIGINT ignored, nohup all with SIGHUP, and children
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine is no fault of the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = [
    "tests.fixtures.isolation",
    "tests.fixtures.emulator",
    "tests.fixtures.prefect",
    "tests.fixtures.cli",
    "tests.fixtures.creds",
    "tests.fixtures.schemas",
    "tests.fixtures.scripted_prefect",
    "tests.fixtures.browser",
]

_LONGEST = (
    "tests/test_readme.py",
    "tests/examples/test_demo.py",
    "tests/local/test_canaries.py",
    "tests/local/test_stack.py",
    "tests/campaign/test_short.py",
    "tests/local/test_doctor_mends.py",
    "tests/security/test_closed_stack.py",
    "tests/flows/test_growth.py",
    "tests/flows/test_prefect_trouble.py",
    "tests/cli/test_creds.py",
    "tests/flows/test_run_command.py",
    "tests/security/test_signed.py",
    "tests/security/test_pages.py",
    "tests/security/test_taken.py",
    "tests/security/test_folder.py",
    "tests/flows/test_recover.py",
)
"""Files that take minutes: begun first, so that no worker is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and all else behind them in its order."""
    rank = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))
