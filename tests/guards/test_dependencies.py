"""What the code imports is declared, and what is declared is what the lock pins."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
OURS = {"spanctl", "spanctl_cli"}
GOOGLE = {
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.oauth2": "google-auth",
    "google.cloud.secretmanager_v1": "google-cloud-secret-manager",
    "google.cloud.spanner_admin_database_v1": "google-cloud-spanner",
    "google.cloud.spanner_admin_instance_v1": "google-cloud-spanner",
    "google.cloud.spanner_v1": "google-cloud-spanner",
    "google.iam.v1": "grpc-google-iam-v1",
    "google.protobuf": "protobuf",
    "google.longrunning": "googleapis-common-protos",
    "google.rpc": "googleapis-common-protos",
}
"""The namespace packages below ``google``, which many distributions share."""


def asked() -> list[Requirement]:
    """Return the direct dependencies at run time."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(one) for one in project["project"]["dependencies"]]


def imported() -> set[str]:
    """Return the modules that the packages import, by their full names."""
    found: set[str] = set()
    for path in [*(ROOT / "spanctl").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def distribution(module: str) -> str | None:
    """Return the normalised name of what installs a module; None for Python's and ours."""
    top = module.split(".", 1)[0]
    if top in sys.stdlib_module_names or top in OURS:
        return None
    if top == "google":
        fits = [name for prefix, name in GOOGLE.items() if f"{module}.".startswith(f"{prefix}.")]
        assert fits, f"{module}: say in this test what installs it"
        return fits[0]
    return _installed()[top][0].lower().replace("_", "-")


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def test_what_is_imported_is_declared() -> None:
    """Nothing rests on what another dependency happens to bring along."""
    declared = {one.name.lower() for one in asked()}
    needed = {name: module for module in sorted(imported()) if (name := distribution(module))}
    assert {n: m for n, m in needed.items() if n not in declared} == {}


def test_every_dependency_is_bounded_and_the_lock_is_within() -> None:
    """A dependency has a lowest and a highest version, and what is tested lies between them."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))
    for requirement in asked():
        operators = {one.operator for one in requirement.specifier}
        assert operators == {">=", "<"}, requirement
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement
