"""`@kernel` and `@in_place` compile a function with numba; type checkers see the function as it is.

Machine code is cached beside the package, in a folder named by the sources that the function's file imports, near and
far: numba itself looks at the file of a function only, and would go on using a caller into which an old version of
another file was compiled.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numba
from numba import njit

F = TypeVar("F")
PACKAGE = Path(__file__).parent


@cache
def cache_folder(source: Path) -> Path:
    """Return the folder for kernels of this file: in the package, or the user's own where that is read-only."""
    state = hashlib.blake2b(digest_size=8)
    for file in sorted(imported(source)):
        state.update(file.read_bytes())
    name = f"kernels-{state.hexdigest()}"
    for parent in (PACKAGE / "__pycache__", Path.home() / ".cache" / "querywatch"):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
            return parent / name
        except OSError:
            continue
    return PACKAGE


def imported(source: Path) -> set[Path]:
    """Return a file and every file of this package that it imports, directly or through others."""
    found, open_files = {source}, [source]
    while open_files:
        new = set(_direct(open_files.pop().read_bytes())) - found
        found |= new
        open_files += new
    return found


def _direct(code: bytes) -> Iterator[Path]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        else:
            continue
        for name in names:
            top, *rest = name.split(".")
            path = PACKAGE.joinpath(*rest)
            for file in (path.with_suffix(".py"), path / "__init__.py") if top == PACKAGE.name and rest else ():
                if file.is_file():
                    yield file


if TYPE_CHECKING:

    def kernel(function: F) -> F:
        """Compile a function to machine code: sequential in meaning, no Python objects inside."""
        return function

    def in_place(function: F) -> F:
        """Compile a kernel that makes no arrays: it need not count who holds one, a third of the time of small ones."""
        return function

else:

    def kernel(function: Any) -> Any:
        """Compile a function to machine code: sequential in meaning, no Python objects inside."""
        return _compiled(function)

    def in_place(function: Any) -> Any:
        """Compile a kernel that makes no arrays: it need not count who holds one, a third of the time of small ones."""
        return _compiled(function, _nrt=False)

    def _compiled(function: Any, **options: Any) -> Any:
        numba.config.CACHE_DIR = str(cache_folder(Path(sys.modules[function.__module__].__file__)))
        # x / 0 is infinite or NaN, as in numpy
        return njit(cache=True, nogil=True, error_model="numpy", **options)(function)
