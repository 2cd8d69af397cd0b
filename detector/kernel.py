"""`@kernel` compiles a function with numba; type checkers see the function as it is.

Machine code is cached beside the package, under a name that changes with any source file: numba itself looks at the
file of a function only, and would go on using a caller into which an old version of another file was compiled.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numba
from numba import njit

F = TypeVar("F")


def _cache_folder() -> Path:
    """Return a folder for this version of the sources: in the package, or the user's own where that is read-only."""
    package = Path(__file__).parent
    state = hashlib.blake2b(digest_size=8)
    for source in sorted(package.rglob("*.py")):
        state.update(source.read_bytes())
    name = f"kernels-{state.hexdigest()}"
    for parent in (package / "__pycache__", Path.home() / ".cache" / "querywatch"):
        try:
            (parent / name).mkdir(parents=True, exist_ok=True)
            return parent / name
        except OSError:
            continue
    return package


numba.config.CACHE_DIR = str(_cache_folder())

if TYPE_CHECKING:

    def kernel(function: F) -> F:
        """Compile a function to machine code: sequential in meaning, no Python objects inside."""
        return function

else:
    kernel: Any = njit(cache=True, nogil=True, error_model="numpy")  # x / 0 is infinite or NaN, as in numpy
