"""What every command needs of this package costs no SDK."""

import os
import subprocess
import sys

LIGHT = (
    "spanctl.credentials.hardening",
    "spanctl.credentials.secret",
    "spanctl.credentials.document",
    "spanctl.credentials.reference",
    "spanctl.credentials.endpoints",
    "spanctl.credentials.rotation.driver",
    "spanctl.credentials.rotation.pins",
    "spanctl.credentials.rotation.status",
)
PROBE = f"""
import importlib, sys
for name in {LIGHT!r}:
    importlib.import_module(name)
print(sorted({{name.partition(".")[0] for name in sys.modules}} & set(sys.argv[1:])))
"""


def test_the_light_part_imports_no_sdk() -> None:
    """Hardening, redaction, references and the rotation itself run on the standard library."""
    heavy = ["google", "grpc", "requests", "httpx", "prefect", "rich", "typer"]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *heavy],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
