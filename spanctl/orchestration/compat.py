"""Where Prefect and Python are reached into before they are imported; tested with Prefect 3.8.8.

Prefect takes settings from ``.env``, ``prefect.toml`` and ``pyproject.toml`` of the folder that one
stands in, and among them one that names a logging configuration, in which any callable can stand.
A child of a process pool looks for its first modules in that folder. So whoever can write to it has
code run. Nothing else of Prefect's settings is touched: the environment and the profiles hold as
ever, and so does what a flow's own file imports.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any


def keep_folder_out() -> None:
    """Have nothing of the current folder taken by what is imported from now on.

    A program that has imported Prefect before has its settings, and keeps them.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    changes = {name: change for name, change in _CHANGES.items() if name not in sys.modules}
    if changes:
        sys.meta_path.insert(0, _Finder(changes))


class _Finder:
    """Finds a few modules, as ever, and has each changed once it is loaded."""

    def __init__(self, changes: "dict[str, Callable[[Any], None]]") -> None:
        self._changes = changes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = self._changes.pop(name, None)
        if change is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, change)  # type: ignore[assignment]  # all that is asked
        return spec


class _Loader:
    """Loads as the one that it stands for, and changes what came."""

    def __init__(self, inner: Any, change: Callable[[Any], None]) -> None:  # noqa: ANN401
        self._inner = inner
        self._change = change

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the other's
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._inner.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        self._change(module)


def _settings_without_folder(sources: Any) -> None:  # noqa: ANN401 - a module
    """Change ``prefect.settings.sources``."""
    dotenv = sources.FilteredDotEnvSettingsSource
    begin = dotenv.__init__
    read = sources._read_toml_file  # noqa: SLF001 - there is no other way in
    files = {sources.Path("prefect.toml"), sources.Path("pyproject.toml")}

    def without_file(self: object, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Prefect's
        begin(self, *args, **{**kwargs, "env_file": None})

    def of_no_folder(path: Any) -> Any:  # noqa: ANN401 - Prefect's
        if path in files:
            raise FileNotFoundError(path)
        return read(path)

    dotenv.__init__ = without_file
    sources.dotenv = SimpleNamespace(dotenv_values=lambda *_: {})
    sources._read_toml_file = of_no_folder  # noqa: SLF001
    sources.TomlConfigSettingsSourceBase._read_files = lambda *_, **__: {}  # noqa: SLF001


def _children_without_folder(util: Any) -> None:  # noqa: ANN401 - a module
    """Change ``multiprocessing.util``: children are begun with ``-P``, and get our path later."""
    flags = util._args_from_interpreter_flags  # noqa: SLF001 - there is no other way in
    util._args_from_interpreter_flags = lambda: [*flags(), "-P"]  # noqa: SLF001


def _flows_without_folder(tools: Any) -> None:  # noqa: ANN401 - a module
    """Change ``prefect.utilities.importtools``: a file's own folder goes before what is installed.

    The current one is left to who loads it.
    """
    from threading import RLock  # not at start-up: a signal is heard only behind these imports

    os, load_script, lock = tools.os, tools.load_script_as_module, RLock()

    def load_script_as_module(path: str) -> ModuleType:
        folder = os.path.dirname(os.path.realpath(path))
        with lock:
            tools.os = _Elsewhere(os, folder)
            try:
                loaded: ModuleType = load_script(path)
            finally:
                tools.os = os
        return loaded

    tools.load_script_as_module = load_script_as_module
    tools.load_module = import_module


def _results_of_owner(calls: Any) -> None:  # noqa: ANN401 - a module
    """Change ``prefect._internal.compatibility.blocks``: also where no flow imports spanctl."""
    from spanctl.orchestration.ownresults import keep_own

    keep_own(calls)


class _Elsewhere:
    """The module ``os`` in another folder."""

    def __init__(self, os: Any, folder: str) -> None:  # noqa: ANN401 - a module
        self._os = os
        self._folder = folder

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the module's
        return getattr(self._os, name)

    def getcwd(self) -> str:
        return self._folder


_CHANGES = {
    "prefect.utilities.importtools": _flows_without_folder,
    "prefect.settings.sources": _settings_without_folder,
    "multiprocessing.util": _children_without_folder,
    "prefect._internal.compatibility.blocks": _results_of_owner,
}
