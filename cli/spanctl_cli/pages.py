"""HTML pages as files: written whole, for their owner alone, and opened in a browser."""

from pathlib import Path

from spanctl.errors import SpanctlError
from spanctl.privatefiles import write_private


def save(path: Path, page: str) -> Path:
    """Write a page, owner-only, whole or not at all; return the file's full path.

    Raises:
        SpanctlError: It can't be written.
    """
    try:
        write_private(path, page.encode())
    except OSError as error:
        msg = f"can't write {path}: {error.strerror}"
        raise SpanctlError(msg, hint="name another file: --output-file PATH") from error
    return path.resolve()


def kept(name: str) -> Path:
    """Return where a page is kept that nobody named a file for; the folder is made.

    Raises:
        SpanctlError: The folder can't be made.
    """
    from spanctl.settings import state_home

    folder = state_home() / "pages"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        msg = f"can't make {folder}: {error.strerror}"
        raise SpanctlError(msg, hint="name a file: --output-file PATH") from error
    return folder / f"{name}.html"


def show(path: Path) -> bool:
    """Open a page in the person's browser; return whether there is one."""
    import webbrowser

    return webbrowser.open(path.as_uri())
