"""The quality report of a symbol's bars, written beside them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from qtrade.data.quality import examine
from qtrade.data.raw import Finding, RawBars
from qtrade.files import write_json


def report_path(path: Path) -> Path:
    """Quality report of the entry whose Parquet file is at `path`."""
    return path.with_suffix(".quality.json")


def write_report(path: Path, raw: RawBars) -> tuple[Finding, ...]:
    """Examine bars, write what is found beside the entry at `path`, and return it."""
    findings = examine(raw)
    write_json(
        report_path(path),
        {
            "symbol": raw.symbol,
            "source": raw.source,
            "interval": raw.interval,
            "calendar": raw.calendar,
            "bars": len(raw.frame),
            "first": str(raw.frame.index[0]),
            "last": str(raw.frame.index[-1]),
            "fingerprint": raw.fingerprint(),
            "examined": str(pd.Timestamp.now("UTC").floor("s")),
            "findings": [finding.to_dict() for finding in findings],
        },
    )
    return findings
