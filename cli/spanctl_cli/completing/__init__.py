"""What a TAB in a shell is answered with, before Typer or any command is imported.

The shells' scripts (:mod:`spanctl_cli.completions`) run ``spanctl`` with ``_SPANCTL_COMPLETE``
set. :mod:`.answer` reads what was typed (:mod:`.typed`), walks the generated table of commands to
what may follow (:mod:`.walk`), takes names and IDs from a cache (:mod:`.cache`) and writes them as
the shell wants them. A cache that is not fresh is renewed by a detached process (:mod:`.refresh`).
"""
