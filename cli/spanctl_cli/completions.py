"""Write the shells' completion scripts: ``python -m spanctl_cli.completions FOLDER``.

The scripts only ask ``spanctl`` itself what fits, so they change with Typer, not with the commands.
"""

import sys
from pathlib import Path

from typer.completion import get_completion_script  # type: ignore[attr-defined]  # no public name

PROGRAM = "spanctl"
FILES = {"bash": "spanctl.bash", "zsh": "_spanctl", "fish": "spanctl.fish"}
_ZSH_LAST = f"compdef _{PROGRAM}_completion {PROGRAM}"
_ZSH_AUTOLOADED = f"""\
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _{PROGRAM}_completion "$@"
else
  {_ZSH_LAST}
fi"""


def script(shell: str) -> str:
    """Return the completion script for ``bash``, ``zsh`` or ``fish``."""
    variable = f"_{PROGRAM.upper()}_COMPLETE"
    text = get_completion_script(prog_name=PROGRAM, complete_var=variable, shell=shell)
    # Installed in zsh's fpath, the file is the body of an autoloaded function: without this, the
    # first TAB of a session completes nothing.
    return text.replace(_ZSH_LAST, _ZSH_AUTOLOADED) + "\n"


def write(folder: Path) -> None:
    """Write the scripts into a folder, under the names by which shells look for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for shell, name in FILES.items():
        (folder / name).write_text(script(shell), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
