"""Write what completes ``spanctl`` in a shell: ``python -m spanctl_cli.completions FOLDER``.

The shells' scripts ask ``spanctl`` itself what fits (:mod:`spanctl_cli.completing`); the table of
commands that it answers from is generated from the Typer tree. Both are committed.
"""

import json
import sys
from pathlib import Path

FILES = {"bash": "spanctl.bash", "zsh": "_spanctl", "fish": "spanctl.fish"}

_BASH = r"""# Completion of spanctl for bash 3.2 or newer. Written by: make completions
_spanctl() {
  local answer line
  COMPREPLY=()
  answer=$(
    _SPANCTL_COMPLETE=bash _SPANCTL_LINE="${COMP_LINE:0:COMP_POINT}" \
      _SPANCTL_BREAKS="$COMP_WORDBREAKS" "${1/#\~/$HOME}" 2>/dev/null </dev/null
  ) || return 0
  while IFS= read -r line; do
    case $line in
      '') ;;
      $'\tfiles') compopt -o default 2>/dev/null ;;
      *) COMPREPLY+=("$line") ;;
    esac
  done <<<"$answer"
  return 0
}

# The order is that of spanctl: newest first. bash before 4.4 can't keep it.
complete -o nosort -F _spanctl spanctl 2>/dev/null || complete -F _spanctl spanctl
"""

_ZSH = r"""#compdef spanctl
# Completion of spanctl for zsh. Written by: make completions
_spanctl() {
  local line ret=1
  local -a typed lines options others
  typed=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
  lines=("${(@f)$(
    _SPANCTL_COMPLETE=zsh _SPANCTL_WORDS="${(pj:\x1f:)typed[2,-1]}" \
      ${~typed[1]} 2>/dev/null </dev/null
  )}")
  for line in $lines; do
    case $line in
      $'\tfiles') _files && ret=0 ;;
      -*) options+=("$line") ;;
      *) others+=("$line") ;;
    esac
  done
  (( $#others )) && _describe -V -t values 'spanctl' others && ret=0
  (( $#options )) && _describe -o -V -t options 'option' options && ret=0
  return ret
}

# Found in fpath, this file is the body of a function, and has to do its work at the first TAB.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _spanctl "$@"
else
  compdef _spanctl spanctl
fi
"""

_FISH = r"""# Completion of spanctl for fish 3 or newer. Written by: make completions
function __spanctl_complete
    set -l before (commandline --current-process --cut-at-cursor --tokenize)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program $before[1]
    set -e before[1]
    set -lx _SPANCTL_COMPLETE fish
    set -lx _SPANCTL_WORDS (string join \x1f -- $before "$current")
    for line in ($program 2>/dev/null </dev/null)
        if test "$line" = \tfiles
            __fish_complete_path "$current"
        else
            printf '%s\n' $line
        end
    end
end

complete --command spanctl --no-files --keep-order --arguments '(__spanctl_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """Return the completion script for ``bash``, ``zsh`` or ``fish``."""
    return _SCRIPTS[shell]


def commands() -> str:
    """Return the table of commands, as JSON."""
    from spanctl_cli.main import build
    from spanctl_cli.tree import root, table

    return json.dumps(table(root(build())), ensure_ascii=False, indent=1) + "\n"


def write(folder: Path) -> None:
    """Write the scripts into a folder, under the names by which shells look for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for shell, name in FILES.items():
        (folder / name).write_text(script(shell), encoding="utf-8")


if __name__ == "__main__":
    from spanctl_cli.completing.answer import TABLE

    write(Path(sys.argv[1]))
    TABLE.write_text(commands(), encoding="utf-8")
