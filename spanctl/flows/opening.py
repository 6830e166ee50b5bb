"""What opens Prefect's API, given to Prefect in this process: in memory, for all its threads."""

from collections.abc import Mapping

import prefect.context
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

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
    current = prefect.context.get_settings_context()
    settings = current.settings.copy_with_update(
        updates={_SETTINGS[name]: secret.reveal_text() for name, secret in kept.items()},
        restore_defaults={one for name, one in _SETTINGS.items() if name not in kept},
    )
    # The global one is what threads see that copied no context; nothing else reaches them all.
    prefect.context.GLOBAL_SETTINGS_CONTEXT = prefect.context.SettingsContext(
        profile=current.profile, settings=settings
    )
