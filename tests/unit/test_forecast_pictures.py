"""A forecast drawn in the terminal and as a picture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from qtrade.errors import UsageError
from qtrade.report.forecast_chart import LEAST_WIDTH, chart
from qtrade.report.forecast_figure import draw_forecast
from qtrade.report.forecast_outlook import LEVELS, Outlook, band


def outlook(symbol: str = "^GSPC", *, horizon: int = 24, slope: float = 0.5, freq: str = "D") -> Outlook:
    stamps = pd.date_range("2024-01-01", periods=3 * horizon + 1, freq=freq, tz="UTC")
    recent = pd.Series(100 + slope * np.arange(2 * horizon + 1), index=stamps[: 2 * horizon + 1])
    price = recent.iloc[-1] + slope * np.arange(1, horizon + 1)
    spread = np.sqrt(np.arange(1, horizon + 1))
    ahead = {"price": price}
    for level in LEVELS:
        low, high = band(level)
        ahead |= {low: price - level / 25 * spread, high: price + level / 25 * spread}
    return Outlook(symbol, recent, pd.DataFrame(ahead, index=stamps[2 * horizon + 1 :]))


@pytest.mark.parametrize("width", [LEAST_WIDTH, 61, 80, 200])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_a_chart_fits_its_width_and_shows_both_bands(width: int, ascii_only: bool) -> None:
    lines = [line.plain for line in chart(outlook(), width=width, ascii_only=ascii_only)]
    assert max(map(len, lines)) <= width
    drawn = "".join(lines[:-2])
    for letter in ".:" if ascii_only else "░▒":
        assert letter in drawn
    assert all(line.isascii() for line in lines) or not ascii_only
    assert lines[0].lstrip().startswith("154.62 ")
    assert "2024-02-18" in lines[-2], "the origin is on the axis"


def test_a_rising_price_rises_from_corner_to_corner() -> None:
    lines = [line.plain for line in chart(outlook(), width=100, ascii_only=True)]
    columns = [line.find("*") for line in lines if "*" in line]
    assert columns == sorted(columns, reverse=True)
    ahead = [line.find("o") for line in lines[:-2] if "o" in line]
    assert ahead == sorted(ahead, reverse=True)
    assert min(ahead) >= max(columns)


def test_prices_that_lie_close_together_are_told_apart() -> None:
    wide = outlook()
    assert wide.decimals == 2
    close = Outlook("EURUSD=X", 1 + wide.recent / 1e5, 1 + wide.ahead / 1e5)
    assert close.decimals == 6
    labels = {line.plain.split()[0] for line in chart(close, width=80)[:-2] if line.plain[0] != " "}
    assert len(labels) == 3


@pytest.mark.parametrize("width", [LEAST_WIDTH, 80])
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e24, 1e298, 1e306])
def test_prices_of_any_size_fit_and_are_told_apart(width: int, scale: float) -> None:
    usual = outlook()
    lines = [line.plain for line in chart(Outlook("X", usual.recent * scale, usual.ahead * scale), width=width)]
    assert max(map(len, lines)) <= width
    labels = [line.split()[0] for line in (lines[0], lines[7], lines[13])]
    top, middle, bottom = (float(label) / scale for label in labels)
    assert (top, middle, bottom) == pytest.approx((154.62, 125.21, 100.0), rel=1e-3)


@pytest.mark.parametrize(("price", "label"), [(0.003, "0.003000"), (100.0, "100.00"), (1.2345, "1.234"), (0.0, "0.00")])
def test_a_flat_price_shows_four_digits(price: float, label: str) -> None:
    usual = outlook()
    flat = Outlook("X", usual.recent * 0 + price, usual.ahead * 0 + price)
    assert chart(flat, width=80)[0].plain.split()[0] == label


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_not_drawn(wrong: float) -> None:
    usual = outlook()
    endless = Outlook("X", usual.recent, usual.ahead * wrong)
    assert (chart(endless, width=80), endless.decimals) == ([], 2)


def test_what_is_narrower_than_a_picture_gets_none() -> None:
    assert chart(outlook(), width=LEAST_WIDTH - 1) == []


@pytest.mark.parametrize("horizon", [1, 4, 24])
def test_a_price_that_never_moves_can_be_drawn(horizon: int) -> None:
    still = outlook(horizon=horizon, slope=0.0)
    flat = Outlook(still.symbol, still.recent, still.ahead * 0 + 100)
    lines = [line.plain for line in chart(flat, width=80)]
    assert sum(bool(re.search("[\u2800-\u28ff]", line)) for line in lines) == 1


@pytest.mark.parametrize(("symbols", "panels"), [(1, 1), (2, 2), (3, 4), (7, 9)])
def test_every_symbol_has_its_panel(symbols: int, panels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: object, **kwargs: object) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    names = [f"S{number} <script>$x_1$" for number in range(symbols)]
    path = tmp_path / "fan.png"
    draw_forecast([outlook(name, freq="h") for name in names], path, headline="FAIL", line="It loses $2^2$ & more.")
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = figures
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(figure.axes) == panels
    assert [axes.get_title(loc="left") for axes in shown] == [f"{name} after 01-03 00:00 UTC" for name in names]
    assert figure.get_suptitle() == "FAIL: It loses $2^2$ & more."
    assert all(len(axes.collections) == len(LEVELS) for axes in shown)


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot draw 'fan\.pdf'"):
        draw_forecast([outlook()], tmp_path / "fan.pdf", headline="PASS", line="")
