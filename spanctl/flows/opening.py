"""What opens Prefect's API, given to Prefect in this process: in memory, for all its threads."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import prefect.context
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_KEY,
    PREFECT_CLIENT_CUSTOM_HEADERS,
    Settings,
)

from spanctl.credentials.secret import Secret
from spanctl.orchestration.settings import AUTH_STRING, HEADERS, KEY, parse_headers

_KEYS = {KEY: PREFECT_API_KEY, AUTH_STRING: PREFECT_API_AUTH_STRING}
_SETTINGS = {**_KEYS, HEADERS: PREFECT_CLIENT_CUSTOM_HEADERS}


def open_api(kept: Mapping[str, Secret]) -> None:
    """Have Prefect use these from now on, in place of any other that it knows.

    It puts them into no environment: processes of a pool get them through their pipe.

    Args:
        kept: Prefect's variable to its value; empty to leave Prefect as it is.
    """
    if not kept:
        return
    told: dict[Any, Any] = {_SETTINGS[name]: one.reveal_text() for name, one in kept.items()}
    if HEADERS in kept:
        told[PREFECT_CLIENT_CUSTOM_HEADERS] = parse_headers(kept[HEADERS].reveal_text())
    replaced = _KEYS if kept.keys() & _KEYS.keys() else {}
    change(told, {one for name, one in replaced.items() if name not in kept})
    _keep_out_of_environments()


def change(updates: Mapping[Any, Any], restored: Collection[Any] = ()) -> None:
    """Have Prefect use these of its settings from now on, in this process.

    Args:
        updates: Prefect's setting to its value.
        restored: The settings that get their defaults again.
    """
    current = prefect.context.get_settings_context()
    settings = current.settings.copy_with_update(updates=updates, restore_defaults=set(restored))
    # The global one is what threads see that copied no context; nothing else reaches them all.
    prefect.context.GLOBAL_SETTINGS_CONTEXT = prefect.context.SettingsContext(
        profile=current.profile, settings=settings
    )


def environment() -> dict[str, str]:
    """Return Prefect's variables with what opens its API, for a process that reads nothing else."""
    found = {name: one.value() for name, one in _SETTINGS.items()}
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in found.items()
        if value
    }


def _keep_out_of_environments() -> None:
    """Have Prefect leave what opens its API out of every environment that it makes from now on.

    A worker hands its settings to the processes of its flow runs that way, a flow's run to those of
    its pool, and the environment of a process is open to whoever may look into it, and inherited.
    """
    make = Settings.to_environment_variables

    def without(self: Settings, *args: Any, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401 - its own
        made = make(self, *args, **kwargs)
        return {name: value for name, value in made.items() if name not in _SETTINGS}

    Settings.to_environment_variables = without  # type: ignore[method-assign, assignment]
