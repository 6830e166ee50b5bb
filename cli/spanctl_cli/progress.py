"""Steps that go on side by side: one line each, live on a terminal, plain lines off it."""

from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from spanctl.printable import printable
from spanctl_cli import talk
from spanctl_cli.context import AppContext

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_WIDTH: Final = 9


class Steps:
    """A block in which named steps begin and end.

    On a terminal each step is a line with a spinner that turns into its end; elsewhere only ends
    are written. Under ``--quiet`` nothing is.
    """

    def __init__(self, app: AppContext) -> None:
        """Nothing is shown before the block begins."""
        self._app = app
        self._running: dict[str, RenderableType] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Begin to show."""
        if talk.coloured() and not self._app.quiet:
            from rich.live import Live

            self._live = Live(console=self._app.console(), transient=True, refresh_per_second=12)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()

    def begin(self, name: str, text: str) -> None:
        """Show that a step goes on."""
        if self._live:
            from rich.spinner import Spinner
            from rich.text import Text

            self._running[name] = Spinner(
                talk.spinner(), Text(printable(f"{name:<{_WIDTH}} {text}"))
            )
            self._show()

    def end(self, name: str, text: str, *, failed: bool = False) -> None:
        """Show how a step ended."""
        self._running.pop(name, None)
        line = printable(f"{name:<{_WIDTH}} {text}")
        if not self._live:
            self._app.note(line)
            return
        from rich.text import Text

        mark = Text("✗ ", "red") if failed else Text("✓ ", "green")
        self._live.console.print(mark.append(line, style="default"))
        self._show()

    def say(self, text: str) -> None:
        """Say something beside the steps."""
        if self._live:
            self._live.console.print(printable(text), markup=False)
        else:
            self._app.note(text)

    def _show(self) -> None:
        from rich.console import Group

        if self._live:
            self._live.update(Group(*self._running.values()), refresh=True)
