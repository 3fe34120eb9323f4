"""What the functions of `qtrade.api` share: their options, and how these become a configuration, a run and progress."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from functools import wraps
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, TypeVar

from qtrade.errors import UsageError, nearest
from qtrade.progress import Progress, Silent

if TYPE_CHECKING:
    from qtrade.config import RunConfig
    from qtrade.runs import Run

Place: TypeAlias = "str | PathLike[str]"
RunLike: TypeAlias = "Run | str | PathLike[str]"
Settings: TypeAlias = "Sequence[str] | Mapping[str, Any]"
Watch: TypeAlias = "bool | Progress"
Function = TypeVar("Function", bound=Callable[..., Any])

RUNS, CACHE = "runs", "data_cache"


class DataOptions(TypedDict, total=False):
    """Which bars, from where; as the options of ``qtrade fetch``."""

    config: Place | None
    settings: Settings
    source: str | None
    interval: str | None
    start: str | date | None
    end: str | date | None
    path: Place | None
    columns: str | Mapping[str, str] | None
    tz: str | None
    calendar: str | None
    accept: Sequence[str] | None


class RunOptions(DataOptions, total=False):
    """What to train on them; as the options of ``qtrade train``."""

    name: str | None
    preset: str | None
    features: str | None
    target: str | None
    attention_keys: str | None


def spelled_out(options: type) -> Callable[[Function], Function]:
    """Give a function whose ``**options`` are a `TypedDict` a signature that lists them, and refuse any other."""
    names = options.__annotations__

    def decorate(function: Function) -> Function:
        written = inspect.signature(function)
        plain = [one for one in written.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=getattr(kind, "__forward_arg__", kind)
            )
            for name, kind in names.items()
        ]
        known = [one.name for one in (*plain, *more)]

        @wraps(function)
        def checked(*arguments: Any, **given: Any) -> Any:
            for name in given:
                if name not in known:
                    raise UsageError(f"{function.__name__} has no option '{name}'", fix=nearest(name, known))
            return function(*arguments, **given)

        checked.__signature__ = written.replace(parameters=[*plain, *more])  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


@contextmanager
def watched(progress: Watch) -> Iterator[Progress]:
    """Hand on who is told of progress: nobody, the terminal, or whom the caller named."""
    if progress is False:
        yield Silent()
    elif progress is True:
        from qtrade.terminal import progress_bars

        with progress_bars() as bars:
            yield bars
    else:
        yield progress


def find_run(run: RunLike, runs: Place) -> Run:
    """Return a run, or find it by its name."""
    from qtrade.runs import Run, open_run

    return run if isinstance(run, Run) else open_run(Path(runs), str(run))


def assignments(settings: Settings | None) -> list[str]:
    """Write settings as ``a.b=value``."""
    from qtrade.options import assignments as written

    return written(settings or ())


def account_of(run: Run, delay: int | None, fill: str | None, account: Settings) -> RunConfig:
    """Return a run's configuration with the account asked for; the short options win."""
    from qtrade.runs import traded_otherwise

    given = [text.removeprefix("backtest.") for text in assignments(account)]
    short = {"delay": delay, "fill": fill}
    return traded_otherwise(run, [*given, *(f"{key}={value}" for key, value in short.items() if value is not None)])


def configuration(symbols: str | Sequence[str], options: RunOptions | DataOptions) -> RunConfig:
    """Put symbols and options together."""
    from qtrade.options import configuration as resolved

    given: dict[str, Any] = dict(options)
    config, settings = given.pop("config", None), given.pop("settings", None)
    path = given.pop("path", None)
    file = {name: given.pop(name, None) for name in ("columns", "tz", "calendar")}
    return resolved(
        None if config is None else Path(config),
        assignments(settings),
        symbols=[symbols] if isinstance(symbols, str) else list(symbols),
        file={"path": None if path is None else str(path), **file},
        **given,
    )
