"""Which bars a run is about, where they come from, and what is done about what they lack."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field, field_validator, model_validator

from qtrade.calendars import check_interval
from qtrade.data.checks import check_names
from qtrade.data.importer import FileConfig, symbols_at
from qtrade.data.synthetic import SyntheticConfig
from qtrade.data.yahoo import YahooConfig
from qtrade.settings import Settings


class DataConfig(Settings):
    """Which bars a run is about."""

    source: str = Field(default="sample", pattern=r"^[a-z][a-z0-9_-]{0,30}$")
    """Where bars come from: sample, yahoo, file, synthetic, or one of your own."""
    symbols: tuple[str, ...] = Field(default=("^GSPC",), min_length=1)
    """Symbols in the source's spelling; several are pooled in one model. For a file its name, for synthetic markets
    the scenario and perhaps a seed, as flip-7."""
    interval: str = "1d"
    """Bar length in Yahoo's spelling, such as 1d, 1h or 15m."""
    start: date | None = None
    """First date; without one, all there is."""
    end: date | None = None
    """Date after the last one."""
    adjust: bool = True
    """Take dividends out of the prices."""
    missing: Literal["drop", "fill"] = "drop"
    """What is done about a bar that some of several symbols lack: `drop` leaves it out for all; `fill` repeats the last
    close of those, without volume, which makes a price that nobody could have traded at."""
    accept: tuple[str, ...] = ()
    """Errors in the data that are known and accepted, by their names in the quality report; a run's report says so."""
    versions: dict[str, str] = Field(default={})
    """Former versions to use, by symbol: the beginning of an id that `qtrade data vintages` lists."""
    file: FileConfig = FileConfig()
    """How to read files."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """What synthetic markets are like."""
    yahoo: YahooConfig = YahooConfig()
    """How Yahoo is asked."""

    @field_validator("interval")
    @classmethod
    def _known_interval(cls, interval: str) -> str:
        return check_interval(interval)

    @model_validator(mode="before")
    @classmethod
    def _name_the_obvious_symbol(cls, tree: Any) -> Any:
        """Without symbols, take those of the path's names, or the synthetic market without a change."""
        if not isinstance(tree, dict) or tree.get("symbols"):
            return tree
        path = tree["file"].get("path") if isinstance(tree.get("file"), dict) else None
        if tree.get("source") == "file" and path:
            return {**tree, "symbols": symbols_at(Path(path))}
        return {**tree, "symbols": ("control",)} if tree.get("source") == "synthetic" else tree

    @field_validator("symbols")
    @classmethod
    def _symbols_are_names(cls, symbols: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(symbols)) < len(symbols):
            raise ValueError("a symbol is named twice")
        if not all(re.fullmatch(r"[!-~]{1,50}", symbol) for symbol in symbols):
            raise ValueError("a symbol is 1 to 50 printable ASCII characters without spaces")
        return symbols

    @field_validator("accept")
    @classmethod
    def _errors_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return check_names(names)

    @field_validator("start", "end", mode="before")
    @classmethod
    def _dates_are_written_out(cls, day: object) -> object:
        if isinstance(day, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", day.strip()):
            raise ValueError("write the date as 2012-01-31")
        if isinstance(day, int | float):
            raise ValueError("write the date as 2012-01-31")
        return day.strip() if isinstance(day, str) else day

    @model_validator(mode="after")
    def _dates_are_in_order(self) -> Self:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self

    @model_validator(mode="after")
    def _versions_are_of_symbols(self) -> Self:
        for symbol in self.versions:
            if symbol not in self.symbols:
                raise ValueError(f"versions names '{symbol}', which is not among the symbols")
        return self

    @property
    def span(self) -> tuple[pd.Timestamp | None, pd.Timestamp | None]:
        """`start` and `end` as UTC stamps."""
        first, stop = (pd.Timestamp(day, tz="UTC") if day else None for day in (self.start, self.end))
        return first, stop
