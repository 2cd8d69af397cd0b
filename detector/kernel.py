"""`@kernel` compiles a function with numba, cached on disk; type checkers see the function as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from numba import njit

F = TypeVar("F")

if TYPE_CHECKING:

    def kernel(function: F) -> F:
        """Compile a function to machine code: sequential in meaning, no Python objects inside."""
        return function

else:
    kernel: Any = njit(cache=True, nogil=True, error_model="numpy")  # x / 0 is infinite or NaN, as in numpy
