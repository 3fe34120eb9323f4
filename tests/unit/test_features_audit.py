"""The audit lets honest features pass, and names column, symbol and bar of those that see ahead."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.errors import IntegrityError, UsageError
from qtrade.features import audit, indicators
from qtrade.features.audit import audit_features
from qtrade.features.build import FeatureConfig
from qtrade.features.indicators import Feature
from qtrade.features.market import Market
from qtrade.features.series import Series
from qtrade.features.targets import make_target
from qtrade.types import Bars

HEAD = "import numpy as np\nimport pandas as pd\n\n\n"


def make(length: int, symbols: int = 3) -> Bars:
    generator = np.random.default_rng(12)
    index = pd.date_range("2015-01-01", periods=length, freq="h", tz="UTC")
    close = 100 * np.exp(0.01 * generator.normal(size=(length, symbols)).cumsum(axis=0))
    opened = np.vstack([close[:1], close[:-1]])
    reach = close * 0.005 * generator.random((length, symbols))
    frames = {
        "open": opened,
        "high": np.maximum(opened, close) + reach,
        "low": np.minimum(opened, close) - reach,
        "close": close,
        "volume": 100 + generator.lognormal(5, 1, (length, symbols)),
    }
    names = [f"S{number}" for number in range(symbols)]
    tables = {name: pd.DataFrame(values, index, names) for name, values in frames.items()}
    return Bars(**tables, interval="1h", calendar="24/7", periods_per_year=8760)


@pytest.fixture(scope="module")
def bars() -> Bars:
    return make(700)


def own(folder: Path, body: str, **settings: object) -> FeatureConfig:
    """Write a file of features and configure it alone."""
    path = folder / "mine.py"
    path.write_text(
        f"{HEAD}def features(bars):\n    close, returns = bars.close, np.log(bars.close).diff()\n    {body}\n"
    )
    return FeatureConfig.model_validate({"set": "none", "module": str(path), **settings})


@pytest.mark.parametrize(
    "config",
    [
        FeatureConfig(set="all", cross=("S2",)),
        FeatureConfig(set="minimal", target="scaled_return"),
        FeatureConfig(set="none", target="log_close"),
        FeatureConfig(mode="S"),
    ],
)
def test_features_that_come_with_qtrade_pass(bars: Bars, config: FeatureConfig) -> None:
    audit_features(bars, config)


def test_it_costs_little_on_a_long_history() -> None:
    long = make(5000, symbols=2)
    audit_features(long, FeatureConfig(set="minimal"))  # what is imported late is imported now
    started = time.perf_counter()
    audit_features(long, FeatureConfig(set="minimal"))
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("length", [1, 2, 20, 22, 23, 60])
def test_a_short_history_has_nothing_to_compare_or_passes(tmp_path: Path, length: int) -> None:
    audit_features(make(length), FeatureConfig(set="minimal", target="scaled_return", cross=("S0",)))
    if length > 2:
        audit_features(make(length), own(tmp_path, "return {'x': returns}"))


@pytest.mark.parametrize(
    "compute",
    [
        lambda market: market.close.shift(-1) / market.close,
        lambda market: market.close / market.close.mean(),
        lambda market: market.range().rolling(5, center=True).mean(),
    ],
    ids=["next close", "mean of all closes", "centred mean"],
)
def test_a_feature_of_qtrade_that_sees_ahead_is_caught(
    bars: Bars, monkeypatch: pytest.MonkeyPatch, compute: Callable[[Market], Series]
) -> None:
    leak = Feature("range", "volatility", 5, compute, "")
    monkeypatch.setitem(indicators.FEATURES, "range", leak)
    with pytest.raises(IntegrityError, match=r"'range': its value for S\d at 2015-\S+ \S+ moves from") as caught:
        audit_features(bars, FeatureConfig(set="minimal"))
    assert caught.value.exit_code == 4


def test_a_target_of_qtrade_that_sees_ahead_is_caught(bars: Bars, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = make_target

    def leaking(bars: Bars, name: str) -> object:
        target = honest(bars, name)
        assert target.unit is not None
        target.unit[:] = np.nanmean(target.unit, axis=0)
        return target

    monkeypatch.setattr(audit, "make_target", leaking)
    with pytest.raises(IntegrityError, match="'unit of the target': its value"):
        audit_features(bars, FeatureConfig(set="none", target="scaled_return"))


HONEST = {
    "returns": "return {'x': returns}",
    "rank among symbols": "return {'x': returns.rolling(5).sum().rank(axis=1)}",
    "mean so far": "return {'x': close / close.expanding().mean()}",
    "log of volume": "return {'x': np.log(bars.volume)}",
    "range that is never zero": "return {'x': returns / (bars.high - bars.low)}",
    "products": "w = np.arange(1.0, 31.0); v = np.lib.stride_tricks.sliding_window_view(close.to_numpy(), 30, axis=0);"
    " return {'x': pd.DataFrame(np.vstack([np.full((29, 3), np.nan), v @ w]), close.index, close.columns)}",
    "seeded noise": "return {'x': close * 0 + np.random.default_rng(1).normal(size=3)}",
}


@pytest.mark.parametrize("body", HONEST.values(), ids=list(HONEST))
def test_an_honest_file_passes(tmp_path: Path, bars: Bars, body: str) -> None:
    for seed in range(3):
        audit_features(bars, own(tmp_path, body), seed=seed)


LEAKS = {
    "next return": "return {'fine': returns, 'x': returns.shift(-1)}",
    "sign of the next return": "return {'fine': returns, 'x': (returns.shift(-1) > 0) * 1.0}",
    "standardised by all bars": "return {'fine': returns, 'x': (close - close.mean()) / close.std()}",
    "filled from behind": "return {'fine': returns, 'x': returns.where(returns > 0).bfill().fillna(0)}",
    "centred": "return {'fine': returns, 'x': returns.rolling(3, center=True).mean()}",
    "another's next return": "return {'fine': returns, 'x': returns.assign(S1=returns['S0'].shift(-1))}",
    "sign of another's next": "return {'fine': returns, 'x': returns.assign(S1=(returns['S0'].shift(-1) > 0) * 1.0)}",
    "rank of the next return": "return {'fine': returns, 'x': returns.shift(-1).rank(axis=1).fillna(2)}",
    "number of bars": "return {'fine': returns, 'x': close * 0 + len(close)}",
    "bars since the end": "return {'fine': returns, 'x': close * 0 + np.arange(len(close))[::-1, None]}",
}


@pytest.mark.parametrize("body", LEAKS.values(), ids=list(LEAKS))
def test_a_file_that_sees_ahead_is_caught_whatever_the_seed(tmp_path: Path, bars: Bars, body: str) -> None:
    config = own(tmp_path, body)
    for seed in range(5):
        with pytest.raises(IntegrityError, match=r"feature 'x' of .*mine\.py: its value for S\d at \d{4}-") as caught:
            audit_features(bars, config, seed=seed)
        assert caught.value.why == "it looks ahead, so a forecast from it means nothing"
        assert caught.value.exit_code == 4


def test_the_bar_that_is_named_is_the_first_that_moves(tmp_path: Path, bars: Bars) -> None:
    with pytest.raises(IntegrityError) as caught:
        audit_features(bars, own(tmp_path, "return {'x': returns.shift(-1).fillna(0)}"))
    words = caught.value.what.split()
    named, cut = words[words.index("at") + 1 :][:2], words[words.index("after") + 1 :][:2]
    assert named == cut, "only the last known bar sees the next one"


def test_one_symbols_future_alone_is_enough_to_catch_it(
    tmp_path: Path, bars: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spoil the other worlds: what is made up for one symbol shows in another."""
    honest = audit._worlds
    monkeypatch.setattr(audit, "_worlds", lambda *given: list(honest(*given))[3:])
    config = own(tmp_path, "return {'x': returns.assign(S1=returns['S0'].shift(-1).fillna(0)).fillna(0)}")
    with pytest.raises(IntegrityError, match=r"its value for S1 at .* is made up for S0"):
        audit_features(bars, config)


def test_what_is_not_deterministic_is_told(tmp_path: Path, bars: Bars) -> None:
    with pytest.raises(IntegrityError, match=r"feature 'x' of .* when it is computed twice") as caught:
        audit_features(bars, own(tmp_path, "return {'x': close * 0 + np.random.default_rng().normal()}"))
    assert "not deterministic" in caught.value.why


def test_columns_that_come_and_go_are_told(tmp_path: Path, bars: Bars) -> None:
    config = own(tmp_path, "return {'x': returns} | ({'y': returns} if len(close) == 700 else {})")
    with pytest.raises(IntegrityError, match=r"feature 'y' of .* is there or not when what comes after .* is removed"):
        audit_features(bars, config)


def test_a_file_that_fails_without_the_future_says_when(tmp_path: Path, bars: Bars) -> None:
    with pytest.raises(
        UsageError, match=r"the features of .* failed, when what comes after 2015-.* is removed"
    ) as caught:
        audit_features(bars, own(tmp_path, "return {'x': close + 0 * close.iloc[699].to_numpy()}"))
    assert "line 7" in caught.value.fix


def target_file(folder: Path, target: str, back: str) -> FeatureConfig:
    path = folder / "mine.py"
    path.write_text(
        f"{HEAD}def target(bars):\n    return {target}\n\n\ndef log_returns(path, known):\n    return {back}\n"
    )
    return FeatureConfig(set="none", target=str(path))


def test_a_target_of_the_users_is_audited(tmp_path: Path, bars: Bars) -> None:
    audit_features(bars, target_file(tmp_path, "np.log(bars.close)", "np.diff(path, axis=1, prepend=known[:, None])"))
    with pytest.raises(IntegrityError, match=r"the target of .*mine\.py: its value for S\d at ") as caught:
        audit_features(bars, target_file(tmp_path, "np.log(bars.close.shift(-1) / bars.close).fillna(0)", "path"))
    assert "labels are cut from later rows by qtrade" in caught.value.fix


def test_a_way_back_that_mixes_forecasts_is_caught(tmp_path: Path, bars: Bars) -> None:
    config = target_file(tmp_path, "np.log(bars.close).diff()", "path - path.mean(axis=0)")
    with pytest.raises(IntegrityError, match=r"'log_returns' in .*mine\.py makes other returns of the path of S\d"):
        audit_features(bars, config)
