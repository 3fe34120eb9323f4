"""What the files of a symbol are called, and back."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

# Any other byte is written as %XX: small letters too, since some file systems do not tell them from capitals.
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=^")
# Windows refuses these whatever follows the first dot; a digit at the end stands for the nine ports.
_RESERVED = ("CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)))


def safe_name(symbol: str) -> str:
    """File name of a symbol: safe on every file system, never that of another symbol; percent-decoding undoes it."""
    name = "".join(
        letter if letter in _SAFE else "".join(f"%{byte:02X}" for byte in letter.encode()) for letter in symbol
    )
    return f"%{ord(name[0]):02X}{name[1:]}" if name in _RESERVED else name


def key_of(path: Path) -> tuple[str, str, str]:
    """Source, interval and symbol of an entry's Parquet file."""
    return path.parent.parent.name, path.parent.name, unquote(path.stem)
