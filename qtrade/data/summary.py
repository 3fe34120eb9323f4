"""What the bars of one symbol look like, in a few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from qtrade.data.raw import RawBars


def summarise(raw: RawBars) -> dict[str, Any]:
    """Describe bars: where they are from, their span, prices, moves, volume and actions, as plain values."""
    frame = raw.frame
    close = frame["close"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.diff(np.log(close))
    moves = moves[np.isfinite(moves)]
    dividends, splits = (frame[name].to_numpy() for name in ("dividends", "splits"))
    found: dict[str, Any] = {
        "source": raw.source,
        "interval": raw.interval,
        "calendar": raw.calendar,
        "exchange zone": raw.exchange_zone,
        "bars": len(frame),
        "first": str(frame.index[0]),
        "last": str(frame.index[-1]),
        "last close": float(close[-1]),
        "lowest": float(frame["low"].min()),
        "highest": float(frame["high"].max()),
        "mean volume": float(frame["volume"].mean()),
        "dividends": int((dividends > 0).sum()),
        "splits": int((splits > 0).sum()),
        "version": raw.fingerprint()[:12],
    }
    if len(moves):
        found |= {
            "bar to bar %": round(100 * float(moves.std()), 4),
            "worst bar %": round(100 * float(np.expm1(moves.min())), 3),
            "best bar %": round(100 * float(np.expm1(moves.max())), 3),
        }
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value for name, value in found.items()
    }
