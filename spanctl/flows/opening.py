"""What opens Prefect's API, given to Prefect in this process: in memory, for all its threads."""

from collections.abc import Collection, Mapping
from typing import Any

import prefect.context
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, Settings

from spanctl.credentials.secret import Secret
from spanctl.orchestration.settings import AUTH_STRING, KEY

_SETTINGS = {KEY: PREFECT_API_KEY, AUTH_STRING: PREFECT_API_AUTH_STRING}


def open_api(kept: Mapping[str, Secret]) -> None:
    """Have Prefect use these from now on, in place of any other that it knows.

    Args:
        kept: Prefect's variable to its value; empty to leave Prefect as it is.
    """
    if not kept:
        return
    change(
        {_SETTINGS[name]: secret.reveal_text() for name, secret in kept.items()},
        {one for name, one in _SETTINGS.items() if name not in kept},
    )


def change(updates: Mapping[Any, str], restored: Collection[Any] = ()) -> None:
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
    return {name: str(value) for name, one in _SETTINGS.items() if (value := one.value())}


def keep_out_of_environments() -> None:
    """Have Prefect leave what opens its API out of every environment that it makes from now on.

    A worker hands its settings to the processes of its flow runs that way, and the environment of
    a process is open to whoever may look into it.
    """
    make = Settings.to_environment_variables

    def without(self: Settings, *args: Any, **kwargs: Any) -> dict[str, str]:  # noqa: ANN401 - its own
        made = make(self, *args, **kwargs)
        return {name: value for name, value in made.items() if name not in _SETTINGS}

    Settings.to_environment_variables = without  # type: ignore[method-assign, assignment]
