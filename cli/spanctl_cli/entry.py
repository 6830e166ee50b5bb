"""The program ``spanctl``: a TAB is answered before the command line is put together."""

import os

from spanctl.orchestration.compat import keep_folder_out
from spanctl_cli import startup

# Here, not in a function: a process pool's child reads this module before it imports Prefect.
keep_folder_out()


def main() -> None:
    """Answer a shell's TAB, or run the command."""
    startup.arm()  # importing the command line takes a moment
    if "_SPANCTL_COMPLETE" in os.environ:
        from spanctl_cli.completing.answer import main as complete

        complete()
    else:
        from spanctl_cli.main import main as run

        run()


if __name__ == "__main__":
    main()
