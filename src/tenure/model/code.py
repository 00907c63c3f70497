"""A user's source: which files a stage needs, and how they are imported from a bundle's own copy.

Every bundle's modules get names of their own, `tenure_bundle_<key>_<module>`, so that two versions of one module
live side by side in one process. Their `import` statements find the bundle's modules first.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import sysconfig
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tenure.errors import ModelError

PREFIX = "tenure_bundle_"

OWN = "tenure.model.formats."
"""Stages that tenure brings; a bundle may name them without holding their code."""

_USES = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_owners: Counter[str] = Counter()
"""Loaded pipelines by the key of their bundle; with the last one the bundle's modules go."""
_counting = threading.RLock()  # an owner may be collected, and so released, while its thread counts

_loading: ContextVar[bool] = ContextVar("tenure_bundle_loading", default=False)


class EndOfScriptError(BaseException):
    """A script reached a call that must not run while a bundle imports it; it counts as imported up to there."""


def end_of_script() -> None:
    """Stop here when a bundle is importing its own copy of the calling script.

    `tenure.register`, `serve` and `asgi` call this first, so that one file may hold both the stage and the lines
    that register it.
    """
    if _loading.get():
        raise EndOfScriptError


# Which files


def origin(thing: Any) -> tuple[str, Path, Path]:
    """Return (`module:Name`, source file, folder that its imports start from) of a class or function.

    Raises:
        ModelError: it has no file, or is defined inside a function.
    """
    name, module = thing.__qualname__, sys.modules.get(thing.__module__)
    if "<" in name:
        raise ModelError(f"{name} must be defined at the top of a module, not inside a function", at=name)
    source = getattr(module, "__file__", None)
    if module is None or source is None or not source.endswith(".py"):
        raise ModelError(f"{name} must be defined in a .py file, so that its source can be kept", at=name)
    file = Path(source).resolve()
    dotted = file.stem if module.__name__ == "__main__" else module.__name__
    depth = dotted.count(".") + (file.name == "__init__.py" and module.__name__ != "__main__")
    return f"{dotted}:{name}", file, file.parents[depth]


def collect(file: Path, root: Path) -> list[Path]:
    """Return a source file and all that it imports from the same folder, directly or not.

    Below an installation's packages only the file's own package is followed.
    """
    relative = file.relative_to(root)
    only = relative.parts[0].removesuffix(".py") if _is_installed(root) else None
    found: dict[Path, None] = {}
    todo = [file, *_files_of(".".join(relative.with_suffix("").parts), root)]
    while todo:
        current = todo.pop()
        if current in found:
            continue
        found[current] = None
        for name in _imports(current, root):
            if only is None or name.partition(".")[0] == only:
                todo += _files_of(name, root)
    return sorted(found)


def _is_installed(root: Path) -> bool:
    paths = {Path(p).resolve() for p in sysconfig.get_paths().values()}
    return root.resolve() in paths


def _files_of(dotted: str, root: Path) -> list[Path]:
    """Return the files of a module and of the packages around it, as far as they are below `root`."""
    out, parts = [], dotted.split(".")
    for i in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:i])
        out += [p for p in (base.with_name(base.name + ".py"), base / "__init__.py") if p.is_file()]
    return out


def _imports(file: Path, root: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise ModelError(f"{file.name}: {error}", at=file.name) from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, file, root)
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")


def _base(node: ast.ImportFrom, file: Path, root: Path) -> str:
    if node.level == 0:
        return node.module or ""
    package = file.relative_to(root).parent.parts
    kept = package[: len(package) - node.level + 1]
    return ".".join((*kept, *((node.module,) if node.module else ())))


# Importing


def resolve(uses: str, root: Path, key: str) -> Any:
    """Return what `module:Name` names in the source folder `root` of the bundle with this key.

    Raises:
        ModelError: it is not there, or importing it failed.
    """
    if not _USES.fullmatch(uses):
        raise ModelError(f"expected `module:Name`, got {uses!r}", at="uses")
    module_name, _, attribute = uses.partition(":")
    module = _module(module_name, root, key)
    thing: Any = module
    for part in attribute.split("."):
        thing = getattr(thing, part, None)
    if thing is None:
        raise ModelError(f"{module_name} has no {attribute}", at="uses")
    if module.__name__.startswith(OWN) and getattr(thing, "__module__", None) != module_name:
        raise ModelError(f"{module_name} has no stage {attribute}", at="uses")  # what it imports is not offered
    return thing


def _module(name: str, root: Path, key: str) -> ModuleType:
    if not _is_own(root, name):
        if name.startswith(OWN):
            return importlib.import_module(name)
        raise ModelError(f"the bundle does not hold the module {name}", at="uses")
    _finder.add(key, root)
    try:
        return importlib.import_module(f"{PREFIX}{key}_{name}")
    except Exception as error:
        raise ModelError(f"cannot import {name}: {type(error).__name__}: {error}", at="uses") from error


def unload(key: str) -> None:
    """Forget a bundle's modules; objects made from them live on."""
    for name in [n for n in sys.modules if n.startswith(f"{PREFIX}{key}_")]:
        del sys.modules[name]
    _finder.roots.pop(key, None)


@contextmanager
def kept(key: str) -> Iterator[Callable[[object], None]]:
    """Keep a bundle's modules for what is loaded here, and forget them with the last of its owners.

    Gives a function that names an owner; where none is named, because loading failed, they are forgotten at once
    unless another owner lives.
    """

    def keep(made: object) -> None:
        _hold(key)
        weakref.finalize(made, _release, key).atexit = False

    _hold(key)
    try:
        yield keep
    finally:
        _release(key)


def _hold(key: str) -> None:
    with _counting:
        _owners[key] += 1


def _release(key: str) -> None:
    with _counting:
        _owners[key] -= 1
        if _owners[key] <= 0:
            del _owners[key]
            unload(key)


def _is_own(root: Path, dotted: str) -> bool:
    top = dotted.partition(".")[0]
    return (root / f"{top}.py").is_file() or (root / top).is_dir()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `tenure_bundle_<key>_<module>` in the bundle that was added under the key."""

    def __init__(self) -> None:
        self.roots: dict[str, Path] = {}

    def add(self, key: str, root: Path) -> None:
        self.roots[key] = root
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)  # before the path finder, which would find submodules without us

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(PREFIX):
            return None
        key, _, name = fullname.removeprefix(PREFIX).partition("_")
        root = self.roots.get(key)
        return None if root is None else _spec(fullname, root.joinpath(*name.split(".")), key, root)


_finder = _Finder()


def _spec(fullname: str, base: Path, key: str, root: Path) -> importlib.machinery.ModuleSpec | None:
    init, plain = base / "__init__.py", base.with_name(base.name + ".py")
    if init.is_file():
        loader = _Loader(fullname, str(init), key=key, root=root)
        return importlib.util.spec_from_file_location(
            fullname, init, loader=loader, submodule_search_locations=[str(base)]
        )
    if plain.is_file():
        return importlib.util.spec_from_file_location(
            fullname, plain, loader=_Loader(fullname, str(plain), key=key, root=root)
        )
    if not base.is_dir():
        return None
    spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
    spec.submodule_search_locations = [str(base)]
    return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs a module from source, writes no byte code, and gives it an `import` that knows its bundle."""

    def __init__(self, fullname: str, path: str, *, key: str, root: Path) -> None:
        super().__init__(fullname, path)
        self._key = key
        self._root = root

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        token = _loading.set(True)
        try:
            super().exec_module(module)
        except EndOfScriptError:
            pass
        finally:
            _loading.reset(token)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and _is_own(self._root, name):
            name = f"{PREFIX}{self._key}_{name}"
        return builtins.__import__(name, globals, locals, fromlist or (), level)
