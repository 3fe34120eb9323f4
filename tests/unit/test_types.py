"""The core types refuse what they say they refuse, and their arithmetic is what they say it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtrade.errors import DataError, IntegrityError, UsageError
from qtrade.forecasts import Forecasts
from qtrade.types import BAR_FIELDS, BacktestResult, Bars, Features, Float64Array, Fold, IntArray

DAYS = pd.date_range("2024-01-01", periods=4, freq="D", tz="UTC", unit="ns")
Frames = dict[str, pd.DataFrame]


def frames(index: pd.DatetimeIndex = DAYS, symbols: tuple[str, ...] = ("A", "B")) -> Frames:
    """Four bars per symbol that rise by 1 a day, from 10 and from 20."""
    close = np.arange(len(index))[:, None] + 10.0 * np.arange(1, len(symbols) + 1)
    values = {"open": close - 0.5, "high": close + 1, "low": close - 1, "close": close, "volume": close * 0 + 7}
    return {name: pd.DataFrame(table, index=index, columns=list(symbols)) for name, table in values.items()}


def make(tables: Frames, periods_per_year: float = 365, calendar: str = "24/7") -> Bars:
    return Bars(**tables, interval="1d", calendar=calendar, periods_per_year=periods_per_year)


def with_value(field: str, row: int, value: float, symbol: str = "B") -> Frames:
    tables = frames()
    tables[field].loc[DAYS[row], symbol] = value
    return tables


class TestBars:
    def test_good_bars_know_their_axes(self) -> None:
        bars = make(frames())
        assert len(bars) == 4
        assert bars.symbols == ("A", "B")
        assert bars.index.equals(DAYS)

    @pytest.mark.parametrize("field", BAR_FIELDS)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
    def test_a_bad_value_is_named_by_field_symbol_and_stamp(self, field: str, value: float) -> None:
        with pytest.raises(DataError) as caught:
            make(with_value(field, 2, value))
        assert caught.value.what == f"B: '{field}' is {value} at 2024-01-03 00:00:00+00:00"
        assert caught.value.why.startswith("1 values")
        assert caught.value.exit_code == 3

    @pytest.mark.parametrize("field", ["open", "high", "low", "close"])
    def test_a_price_of_zero_is_refused(self, field: str) -> None:
        with pytest.raises(DataError, match=rf"A: '{field}' is 0\.0 at 2024-01-01"):
            make(with_value(field, 0, 0.0, symbol="A"))

    def test_no_volume_is_a_volume(self) -> None:
        tables = frames()
        tables["volume"] *= 0.0
        assert (make(tables).volume == 0).all(axis=None)

    @pytest.mark.parametrize(("field", "value"), [("high", 21.9), ("high", 21.4), ("low", 21.6), ("low", 22.1)])
    def test_high_and_low_enclose_open_and_close(self, field: str, value: float) -> None:
        # Row 2 of B opens at 21.5 and closes at 22.
        with pytest.raises(DataError, match="B: high and low do not enclose open and close at 2024-01-03"):
            make(with_value(field, 2, value))

    @pytest.mark.parametrize(("field", "edge", "outwards"), [("high", 22.0, -1), ("low", 21.5, 1)])
    def test_rounding_of_the_vendor_is_no_crossing(self, field: str, edge: float, outwards: int) -> None:
        make(with_value(field, 2, edge * (1 + outwards * 9e-7)))
        with pytest.raises(DataError, match="do not enclose"):
            make(with_value(field, 2, edge * (1 + outwards * 1.1e-6)))

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            (DAYS.tz_localize(None), "bars need a UTC index"),
            (DAYS.tz_convert("America/New_York"), "bars need a UTC index"),
            (DAYS[[0, 2, 1, 3]], r"must increase strictly; 2024-01-02 00:00:00\+00:00 does not follow"),
            (DAYS[[0, 1, 1, 2]], r"must increase strictly; 2024-01-02 00:00:00\+00:00 does not follow"),
            (DAYS[:0], "there are no bars"),
        ],
    )
    def test_the_index_is_utc_and_increases(self, index: pd.DatetimeIndex, message: str) -> None:
        with pytest.raises(DataError, match=message):
            make(frames(index))

    def test_a_symbol_appears_once(self) -> None:
        with pytest.raises(DataError, match="a symbol appears twice: A"):
            make(frames(symbols=("A", "B", "A")))

    def test_there_is_a_symbol(self) -> None:
        with pytest.raises(DataError, match="there are no bars"):
            make(frames(symbols=()))

    @pytest.mark.parametrize("field", ["open", "high", "low", "volume"])
    def test_the_fields_share_index_and_symbols(self, field: str) -> None:
        for other in (frames(DAYS + pd.Timedelta("1h")), frames(symbols=("B", "A"))):
            with pytest.raises(DataError, match=f"'{field}' does not share the index and symbols of 'close'"):
                make(frames() | {field: other[field]})

    @pytest.mark.parametrize("periods", [0.0, -1.0, np.nan, np.inf])
    def test_a_year_has_bars(self, periods: float) -> None:
        with pytest.raises(DataError, match="periods_per_year must be positive"):
            make(frames(), periods)

    def test_rows_and_symbols_are_selected_in_every_field(self) -> None:
        bars = make(frames())
        part = bars.rows(1, 3).select(["B"])
        assert part.index.equals(DAYS[1:3])
        assert part.symbols == ("B",)
        for name in BAR_FIELDS:
            pd.testing.assert_frame_equal(getattr(part, name), getattr(bars, name).iloc[1:3][["B"]])
        assert bars.select(["B", "A"]).symbols == ("B", "A")

    def test_an_empty_range_of_rows_is_refused(self) -> None:
        with pytest.raises(DataError, match="there are no bars"):
            make(frames()).rows(2, 2)

    def test_no_field_can_be_replaced_in_place(self) -> None:
        with pytest.raises(FrozenInstanceError):
            make(frames()).interval = "1h"  # type: ignore[misc]

    def test_equal_bars_have_equal_fingerprints(self) -> None:
        assert make(frames()).fingerprint() == make(frames()).fingerprint()
        assert make(frames(DAYS.as_unit("s"))).fingerprint() == make(frames()).fingerprint()

    @pytest.mark.parametrize(
        "other",
        [
            *(lambda field=field: make(with_value(field, 3, np.nextafter(frames()[field]["B"].iloc[3], 99)))
              for field in BAR_FIELDS),
            lambda: make(frames(DAYS + pd.Timedelta("1ns"))),
            lambda: make(frames(symbols=("A", "C"))),
            lambda: make(frames(), 366),
            lambda: make(frames(), calendar="24/5"),
            lambda: replace(make(frames()), interval="1h"),
            lambda: make(frames()).rows(0, 3),
        ],
    )  # fmt: skip
    def test_a_fingerprint_tells_any_difference(self, other: Callable[[], Bars]) -> None:
        assert other().fingerprint() != make(frames()).fingerprint()


class TestFeatures:
    def test_shape_and_type_are_those_of_the_axes(self) -> None:
        values = np.zeros((4, 2, 3), dtype=np.float32)
        names, symbols = ("a", "b", "c"), ("A", "B")
        assert Features(values, names, DAYS, symbols, warmup=4).warmup == 4
        for wrong in (values[:, :, :2], values[:, :1], values[:3]):
            with pytest.raises(ValueError, match=r"float32 of shape \(4, 2, 3\)"):
                Features(wrong, names, DAYS, symbols, warmup=0)
        with pytest.raises(ValueError, match="got float64"):
            Features(values.astype(np.float64), names, DAYS, symbols, warmup=0)

    @pytest.mark.parametrize("warmup", [-1, 5])
    def test_the_warmup_lies_within_the_bars(self, warmup: int) -> None:
        with pytest.raises(ValueError, match=r"warmup must lie in 0\.\.4"):
            Features(np.zeros((4, 1, 1), dtype=np.float32), ("a",), DAYS, ("A",), warmup)


class TestFold:
    @pytest.mark.parametrize(("horizon", "delay"), [(1, 0), (1, 1), (5, 0), (24, 1)])
    def test_a_label_may_end_at_the_next_origin_and_no_later(self, horizon: int, delay: int) -> None:
        gap = horizon + delay - 1
        fit, valid = range(100), range(100 + gap, 150 + gap)
        test = range(150 + 2 * gap, 160 + 2 * gap)
        fold = Fold(3, fit, valid, test, horizon, delay)
        assert fold.train_end == test.start
        for early in ("valid", "test"):
            moved: Any = {early: range(getattr(fold, early).start - 1, getattr(fold, early).stop - 1)}
            with pytest.raises(IntegrityError, match=f"fold 3: a label of .* the first origin of '{early}'") as caught:
                replace(fold, **moved)
            assert caught.value.exit_code == 4
            assert caught.value.fix == f"leave {gap} origins between them"

    @pytest.mark.parametrize("name", ["fit", "valid", "test"])
    @pytest.mark.parametrize("span", [range(0), range(50, 40), range(0, 4, 2)])
    def test_a_range_is_not_empty_and_leaves_nothing_out(self, name: str, span: range) -> None:
        fold = Fold(0, range(10), range(10, 20), range(20, 30), horizon=1)
        changed: Any = {name: span}
        with pytest.raises(IntegrityError, match=f"'{name}' must be a non-empty range of step 1"):
            replace(fold, **changed)


def forecasts(
    rows: int = 6, steps: int = 3, bank: int = 11, seeds: tuple[int, ...] = (0, 1), rng_seed: int = 0
) -> Forecasts:
    """Two symbols at `rows` origins in two folds, with every seed: rows ordered by seed, origin, symbol."""
    rng = np.random.default_rng(rng_seed)
    origins = pd.date_range("2024-01-10", periods=rows, freq="D", tz="UTC", unit="ns")
    late = np.arange(rows) >= rows // 2
    per_seed = np.repeat(np.arange(rows), 2)
    where = np.tile(per_seed, len(seeds))
    fold = late.astype(np.int64)[where]
    return Forecasts(
        path=rng.normal(0, 0.01, (len(where), steps)),
        symbol=np.tile(np.array(["A", "B"], dtype=object), rows * len(seeds)),
        origin=origins[where],
        fold=fold,
        seed=np.repeat(np.array(seeds, dtype=np.int64), len(per_seed)),
        train_end=origins[np.where(fold == 0, 0, rows // 2)],
        residuals={
            (number, seed, symbol): rng.normal(0, 0.02, (bank, steps))
            for number in (0, 1)
            for seed in seeds
            for symbol in ("A", "B")
        },
    )


def of_one_row(path: list[float], bank: list[list[float]]) -> Forecasts:
    stamp = pd.DatetimeIndex(["2024-01-10"], tz="UTC")
    number = np.zeros(1, dtype=np.int64)
    name = np.array(["A"], dtype=object)
    return Forecasts(np.array([path]), name, stamp, number, number, stamp, {(0, 0, "A"): np.array(bank)})


BANK_OF_INDEX = np.arange(10.0)[:, None]


def of_index(rows: int) -> Forecasts:
    """Forecasts of nothing, whose samples tell which of ten residual rows was drawn."""
    origins = pd.date_range("2024-01-10", periods=rows, freq="h", tz="UTC", unit="ns")
    number, symbol = np.zeros(rows, dtype=np.int64), np.full(rows, "A", dtype=object)
    path = np.zeros((rows, 1))
    return Forecasts(path, symbol, origins, number, number, origins, {(0, 0, "A"): BANK_OF_INDEX})


def reordered(made: Forecasts, order: IntArray) -> Forecasts:
    rows = ("path", "symbol", "origin", "fold", "seed", "train_end")
    return replace(made, **{name: getattr(made, name)[order] for name in rows})


class TestForecasts:
    def test_axes(self) -> None:
        made = forecasts()
        assert len(made) == 24
        assert made.horizon == 3

    def test_an_origin_before_the_models_last_bar_is_an_integrity_error(self) -> None:
        made = forecasts()
        ends = pd.DatetimeIndex([*made.train_end[:-1], made.origin[-1] + pd.Timedelta("1ns")])
        with pytest.raises(IntegrityError, match="the forecast for B at 2024-01-15") as caught:
            replace(made, train_end=ends)
        assert caught.value.exit_code == 4
        assert len(replace(made, train_end=made.origin)) == 24

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_path_is_finite(self, value: float) -> None:
        path = forecasts().path.copy()
        path[13, 2] = value
        with pytest.raises(DataError, match=r"the forecast for B at 2024-01-10 .* is not finite \(fold 0\)"):
            replace(forecasts(), path=path)

    def test_every_row_has_all_its_names(self) -> None:
        made = forecasts()
        for name in ("symbol", "origin", "fold", "seed", "train_end"):
            with pytest.raises(ValueError, match=f"'{name}' has 23 rows, path has 24"):
                replace(made, **{name: getattr(made, name)[:-1]})
        with pytest.raises(ValueError, match=r"path must be \(N, H\)"):
            replace(made, path=made.path[:, 0])

    @pytest.mark.parametrize("bank", [np.zeros((0, 3)), np.zeros((5, 2)), np.zeros(3)])
    def test_residuals_have_rows_of_the_paths_length(self, bank: Float64Array) -> None:
        with pytest.raises(ValueError, match=r"residuals of \(0, 0, 'A'\) must be \(V, 3\)"):
            replace(forecasts(), residuals={(0, 0, "A"): bank})

    def test_the_cumulative_return_adds_up_log_returns(self) -> None:
        made = of_one_row([0.01, -0.03, 0.05], [[0.0, 0.0, 0.0]])
        np.testing.assert_allclose(made.cumulative(), [[0.01, -0.02, 0.03]], atol=1e-15)

    @pytest.mark.parametrize("step", [1, 2, 3])
    def test_expected_is_the_cumulative_return_averaged_over_seeds(self, step: int) -> None:
        made = forecasts()
        table = made.expected(step)
        assert table.shape == (6, 2)
        assert list(table.columns) == ["A", "B"]
        assert table.index.equals(made.origin[:12:2])
        by_seed = made.cumulative()[:, step - 1].reshape(2, 6, 2)
        np.testing.assert_allclose(table.to_numpy(), by_seed.mean(axis=0), rtol=1e-14)

    def test_expected_in_any_order_of_rows_is_that_of_pandas(self) -> None:
        made = reordered(forecasts(rows=9), np.random.default_rng(2).permutation(36)[:25])
        made = replace(made, origin=made.origin.rename("origin"))
        rows = pd.MultiIndex.from_arrays([made.origin, made.symbol])
        wanted = pd.Series(made.cumulative()[:, 1], index=rows).groupby(level=[0, 1]).mean().unstack()
        assert wanted.isna().any(axis=None)
        pd.testing.assert_frame_equal(made.expected(2), wanted, rtol=1e-12)

    def test_expected_of_no_forecast_is_empty(self) -> None:
        assert forecasts().where(np.zeros(24, dtype=np.bool_)).expected(1).shape == (0, 0)

    def test_expected_leaves_a_hole_where_a_symbol_has_no_forecast(self) -> None:
        made = forecasts(seeds=(0,))
        table = made.where(~((made.symbol == "B") & (made.origin == made.origin[2]))).expected(1)
        assert table.isna().sum().sum() == 1
        assert np.isnan(table.iloc[1]["B"])

    @pytest.mark.parametrize("step", [0, -1, 4])
    def test_a_step_outside_the_path_is_a_usage_error(self, step: int) -> None:
        with pytest.raises(UsageError, match=f"step {step} lies outside") as caught:
            forecasts().expected(step)
        assert caught.value.fix == "choose a step from 1 to 3"

    def test_where_keeps_whole_rows_and_all_residuals(self) -> None:
        made = forecasts()
        keep = np.arange(24) % 5 == 0
        part = made.where(keep)
        for name in ("path", "symbol", "origin", "fold", "seed", "train_end"):
            assert np.array_equal(getattr(part, name), getattr(made, name)[keep])
        assert part.residuals is made.residuals

    def test_what_is_taken_from_forecasts_keeps_their_delay_and_validation_origins(self) -> None:
        origins = pd.date_range("2023-12-01", periods=11, tz="UTC")
        made = replace(forecasts(), delay=2, validated=dict.fromkeys(forecasts().residuals, origins))
        part, mean = made.where(made.seed == 1), made.seed_mean()
        assert part.delay == mean.delay == 2
        assert part.validated is made.validated
        assert mean.validated.keys() == mean.residuals.keys()
        assert all(each is origins for each in mean.validated.values())

    def test_validation_origins_are_as_many_as_residuals(self) -> None:
        origins = pd.date_range("2023-12-01", periods=11, tz="UTC")
        with pytest.raises(ValueError, match=r"residuals of \(0, 0, 'A'\) have 11 rows, but 10 validation origins"):
            replace(forecasts(), validated={(0, 0, "A"): origins[1:]})
        some = replace(forecasts(), validated={(0, 0, "A"): origins, (9, 0, "A"): origins[1:]})
        assert len(some.validated) == 2, "banks may lack their origins, and origins their bank"

    def test_a_path_does_not_start_before_its_origin(self) -> None:
        with pytest.raises(ValueError, match="delay must not be negative, got -1"):
            replace(forecasts(), delay=-1)

    def test_the_seed_mean_averages_paths_and_residuals(self) -> None:
        made = forecasts()
        mean = reordered(made, np.random.default_rng(1).permutation(24)).seed_mean()
        np.testing.assert_allclose(mean.path, made.path.reshape(2, 12, 3).mean(axis=0), rtol=1e-14)
        assert list(mean.symbol) == ["A", "B"] * 6
        assert mean.origin.equals(made.origin[:12])
        assert mean.train_end.equals(made.train_end[:12])
        assert np.array_equal(mean.fold, made.fold[:12])
        assert (mean.seed == -1).all()
        bank = mean.residuals[(1, -1, "B")]
        both = made.residuals[(1, 0, "B")], made.residuals[(1, 1, "B")]
        np.testing.assert_allclose(bank, (both[0] + both[1]) / 2, rtol=1e-14)
        assert len(mean.residuals) == 4

    def test_the_seed_mean_of_one_seed_changes_no_number(self) -> None:
        made = forecasts(seeds=(5,))
        mean = made.seed_mean()
        assert np.array_equal(mean.path, made.path)
        assert np.array_equal(mean.quantile(0.1), made.quantile(0.1))

    def test_the_long_table_has_a_row_per_step(self) -> None:
        made = forecasts()
        table = made.to_long()
        assert len(table) == 72
        row = table[(table["symbol"] == "B") & (table["origin"] == made.origin[4]) & (table["seed"] == 1)]
        assert row["step"].tolist() == [1, 2, 3]
        assert np.array_equal(row["y_hat"].to_numpy(), made.path[17])


class TestSpread:
    def test_a_sample_adds_whole_residual_rows_to_the_path(self) -> None:
        made = of_one_row([0.1, 0.2], [[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]])
        drawn = made.sample(200, seed=0) - made.path[:, None, :]
        assert drawn.shape == (1, 200, 2)
        np.testing.assert_allclose(drawn[..., 0], -drawn[..., 1], atol=1e-12)  # steps of one row stay together
        assert set(np.round(drawn[..., 0].ravel(), 9)) == {1.0, 2.0, 3.0}

    def test_a_sample_follows_its_seed(self) -> None:
        made = forecasts()
        assert np.array_equal(made.sample(5, seed=3), made.sample(5, seed=3))
        assert not np.array_equal(made.sample(5, seed=3), made.sample(5, seed=4))

    def test_quantiles_by_hand(self) -> None:
        # Cumulative residuals are 1, 2, 3 after one step and 0, 6, 3 after two: medians 2 and 3.
        made = of_one_row([0.1, 0.2], [[1.0, -1.0], [2.0, 4.0], [3.0, 0.0]])
        np.testing.assert_allclose(made.quantile(0.5), [[0.1 + 2, 0.3 + 3]])
        np.testing.assert_allclose(made.quantile(0.0), [[0.1 + 1, 0.3 + 0]])
        np.testing.assert_allclose(made.quantile(1.0), [[0.1 + 3, 0.3 + 6]])
        np.testing.assert_allclose(made.quantile(0.25), [[0.1 + 1.5, 0.3 + 1.5]])

    @pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
    def test_quantiles_are_those_of_many_samples(self, q: float) -> None:
        made = forecasts(rows=2, seeds=(0,), bank=400)
        drawn = np.cumsum(made.sample(20_000, seed=0), axis=2)
        spread = made.quantile(0.95) - made.quantile(0.05)
        assert (np.abs(np.quantile(drawn, q, axis=1) - made.quantile(q)) < 0.02 * spread).all()

    @given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=24, max_size=24).filter(any))
    @settings(deadline=None, max_examples=40)
    def test_quantiles_of_a_row_do_not_depend_on_the_other_rows(self, rng_seed: int, kept: list[bool]) -> None:
        made, keep = forecasts(rng_seed=rng_seed), np.array(kept)
        assert np.array_equal(made.where(keep).quantile(0.3), made.quantile(0.3)[keep])

    @given(st.integers(0, 2**32 - 1), st.permutations(range(24)), st.integers(0, 24))
    @settings(deadline=None, max_examples=40)
    def test_what_is_drawn_for_a_row_does_not_depend_on_the_other_rows(
        self, rng_seed: int, order: list[int], kept: int
    ) -> None:
        made, rows = forecasts(rng_seed=rng_seed), np.array(order[:kept], dtype=np.int64)
        assert np.array_equal(reordered(made, rows).sample(4, seed=9), made.sample(4, seed=9)[rows])

    def test_every_residual_row_is_drawn_equally_often(self) -> None:
        drawn = of_index(rows=400).sample(100, seed=1)[..., 0].astype(int)
        counts = np.bincount(drawn.ravel(), minlength=10)
        # Chi-square with 9 degrees of freedom: 27.9 is exceeded once in a thousand.
        assert ((counts - 4000) ** 2 / 4000).sum() < 27.9

    @pytest.mark.parametrize("axis", [0, 1])
    def test_neighbouring_rows_and_draws_are_independent(self, axis: int) -> None:
        drawn = np.moveaxis(of_index(rows=400).sample(100, seed=1)[..., 0], axis, 0)
        correlation = np.corrcoef(drawn[1:].ravel(), drawn[:-1].ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(drawn[1:].size)

    def test_symbols_and_seeds_draw_apart_from_one_another(self) -> None:
        made = of_index(rows=100)
        other = replace(made, symbol=np.full(100, "B", dtype=object), residuals={(0, 0, "B"): BANK_OF_INDEX})
        for drawn in (other.sample(50, seed=1), made.sample(50, seed=2)):
            assert abs((drawn == made.sample(50, seed=1)).mean() - 0.1) < 0.02

    def test_missing_residuals_are_named(self) -> None:
        made = forecasts()
        left = {key: bank for key, bank in made.residuals.items() if key != (1, 0, "B")}
        with pytest.raises(DataError, match=r"no validation residuals for \(fold, seed, symbol\) .*1.*0.*'B'"):
            replace(made, residuals=left).sample(1, seed=0)
        assert len(replace(made, residuals=left).where(made.fold == 0).quantile(0.5)) == 12


class TestBacktestResult:
    def test_net_is_gross_less_cost_to_the_bit(self) -> None:
        weights = pd.DataFrame(0.0, index=DAYS, columns=["A"])
        gross, cost = pd.Series([0.1, 0.2, 0.0, 0.3], index=DAYS), pd.Series([0.01, 0.0, 0.0, 0.02], index=DAYS)
        equity, trades = pd.Series(1.0, index=DAYS), pd.DataFrame()
        result = BacktestResult(weights, weights, gross, cost, gross - cost, cost * 0, equity, trades, "reference")
        assert result.net.iloc[0] == 0.1 - 0.01
        with pytest.raises(IntegrityError, match="net return is not gross minus cost"):
            replace(result, net=gross)
