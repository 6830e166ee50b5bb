"""The program ``spanctl``: a TAB is answered before the command line is put together."""

import os

from spanctl_cli import startup


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
