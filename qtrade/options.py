"""What is asked for in options, by the command line or from Python, as one configuration: options win over files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from qtrade.config import RunConfig, load_config
from qtrade.errors import UsageError, nearest

_FEATURES_ARE = dict.fromkeys(("MS", "M", "S"), "mode") | dict.fromkeys(("none", "minimal", "default", "all"), "set")
"""Which setting a value of `features` is; anything else is a file."""


def configuration(
    config: Path | None,
    settings: Sequence[str],
    *,
    symbols: Sequence[str],
    name: str | None = None,
    preset: str | None = None,
    features: str | None = None,
    target: str | None = None,
    attention_keys: str | None = None,
    file: Mapping[str, Any] | None = None,
    accept: Sequence[str] | None = None,
    **data: Any,
) -> RunConfig:
    """Put a file, assignments and options together.

    Parameters
    ----------
    config, settings
        TOML file, and ``a.b=value`` assignments that win over it.
    features
        A mode (MS, M, S), a set (minimal, default, all), or a file that ends in ``.py``.
    file
        ``path``, ``columns``, ``tz`` and ``calendar`` of files of bars; where one is given, bars come from files.
    data
        Other keys of `qtrade.data.config.DataConfig`; None means "not given", here and above.

    Raises
    ------
    UsageError
        If an option, a key or a value is wrong.
    """
    if features is not None and features not in _FEATURES_ARE and not features.endswith(".py"):
        fix = f"{nearest(features, _FEATURES_ARE)}; a file of yours ends in .py"
        raise UsageError(f"there are no features '{features}'", fix=fix)
    if file is not None and any(value is not None for value in file.values()):
        if data.get("source") not in (None, "file"):
            raise UsageError(
                "--path, --columns, --tz and --calendar are about files", fix="leave them out, or add --source file"
            )
        data["source"] = "file"
    return load_config(
        config,
        settings,
        name=name,
        preset=preset,
        data={"symbols": list(symbols) or None, "file": file and dict(file), "accept": accept or None, **data},
        features={_FEATURES_ARE.get(features or "", "module"): features, "target": target},
        informer={"attention_keys": attention_keys},
    )


def assignments(settings: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Write settings as ``a.b=value``: assignments stay as they are, and tables are taken apart.

    Raises
    ------
    UsageError
        If they are one text in place of a list, or a value is none that TOML has.
    """
    if isinstance(settings, str):
        raise UsageError(f"'{settings}' is a text, not a list of settings", fix=f"write it as ['{settings}']")
    if not isinstance(settings, Mapping):
        return list(settings)
    found = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found += [f"{key}.{one}" for one in assignments(value)]
            continue
        try:
            written = tomli_w.dumps({"value": list(value) if isinstance(value, tuple) else value})
        except TypeError as error:
            raise UsageError(f"{key} cannot be set to {value!r}", why=str(error)) from error
        found.append(f"{key}={written.partition('=')[2].strip()}")
    return found
