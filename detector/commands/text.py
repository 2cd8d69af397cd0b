"""Text of strangers on a terminal: client ids, labels and reasons come from whoever queries the model."""

from __future__ import annotations

import unicodedata

from rich.text import Text


def printable(value: object, limit: int = 0) -> str:
    """Return text without control or format characters (they are shown as escapes), cut to `limit` if that is > 0.

    Escape sequences could rewrite the screen, and right-to-left marks could make one id look like another.
    """
    shown = "".join(_shown(sign) for sign in str(value))
    return shown if not limit or len(shown) <= limit else shown[: limit - 1] + "…"


def cell(value: object, limit: int = 0, style: str = "") -> Text:
    """Return the text for rich, which reads no markup in it; a table may cut it but not break it."""
    return Text(
        printable(value, limit), style=style, no_wrap=bool(limit) or None, overflow="ellipsis" if limit else None
    )


def _shown(sign: str) -> str:
    if unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}:
        code = ord(sign)
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return sign
