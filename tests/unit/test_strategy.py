"""Loading a strategy file, its parameters, and what becomes of a bad one."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import qtrade.strategy
from qtrade.errors import IntegrityError, UsageError
from qtrade.forecasts import Forecasts
from qtrade.strategy import (
    LoadedStrategy,
    decide,
    list_strategies,
    load_strategy,
    strategy_folders,
    strategy_parameters,
)
from qtrade.strategy_audit import audit
from qtrade.strategy_file import nested
from qtrade.strategy_spec import ParamValue
from qtrade.types import Bars

SHIPPED = [Path(qtrade.strategy.__file__).parents[1] / "strategies"]

GOOD = '''"""Half of everything.

More words.
"""
from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
import pandas as pd

class _Helper:
    pass

@dataclass(frozen=True)
class Half:
    share: float = 0.5
    """How much to hold,
    in all."""
    count: int = 3
    quiet: bool = False
    label: str = "x"
    side: Literal["long", "short"] = "long"

    def weights(self, bars, forecasts):
        return pd.DataFrame(self.share / len(bars.symbols), index=bars.index, columns=bars.symbols)
'''

OUTER = '''"""Part of one strategy, and of others."""
from dataclasses import dataclass
from qtrade.strategy_file import Strategy, nested

@dataclass(frozen=True)
class Outer:
    base: Strategy = nested("half(count=4)")
    """What is held."""
    of: tuple[Strategy, ...] = (nested("half"), nested("half"))
    share: float = 0.5

    def weights(self, bars, forecasts):
        others = sum(one.weights(bars, forecasts) for one in self.of) if self.of else 0.0
        return self.share * self.base.weights(bars, forecasts) + others / 10
'''

HEAD = """from dataclasses import dataclass
import numpy as np
import pandas as pd

@dataclass(frozen=True)
class Mine:
    def weights(self, bars, forecasts):
        flat = pd.DataFrame(0.0, index=bars.index, columns=bars.symbols)
"""


def make_market(length: int = 60, symbols: tuple[str, ...] = ("A", "B"), seed: int = 0) -> tuple[Bars, Forecasts]:
    """Bars, and a forecast of six steps for every symbol and bar of their second half."""
    generator = np.random.default_rng(seed)
    index = pd.date_range("2024-01-01", periods=length, tz="UTC")
    close = pd.DataFrame(
        np.exp(generator.normal(0, 0.02, (length, len(symbols))).cumsum(axis=0)), index=index, columns=list(symbols)
    )
    origin = index[length // 2 :].repeat(len(symbols))
    rows = len(origin)
    forecasts = Forecasts(
        path=generator.normal(0, 0.01, (rows, 6)),
        symbol=np.tile(np.array(symbols, dtype=object), rows // len(symbols)),
        origin=origin,
        fold=np.zeros(rows, dtype=np.int64),
        seed=np.zeros(rows, dtype=np.int64),
        train_end=index[[length // 4]].repeat(rows),
        residuals={(0, 0, symbol): np.zeros((3, 6)) for symbol in symbols},
    )
    bars = Bars(
        open=close,
        high=close,
        low=close,
        close=close,
        volume=close,
        interval="1d",
        calendar="24/7",
        periods_per_year=365,
    )
    return bars, forecasts


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def mine(folder: Path, body: str) -> LoadedStrategy:
    """A strategy whose `weights` ends in `body`, with a `flat` frame of zeros at hand."""
    return load_strategy(write(folder, HEAD + "".join(f"        {line}\n" for line in body.split("\n"))), {}, [])


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    """The message of the usage error that the call must raise."""
    with pytest.raises(UsageError) as caught:
        call(*arguments, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_path_loads_with_its_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    loaded = load_strategy(path, {}, [])
    assert (loaded.name, loaded.path) == ("mine", Path(path))
    assert loaded.params == {"share": 0.5, "count": 3, "quiet": False, "label": "x", "side": "long"}
    assert loaded.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()
    assert not (tmp_path / "__pycache__").exists()
    bars, forecasts = make_market()
    assert (decide(loaded, bars, forecasts) == 0.25).all(axis=None)


def test_parameters_are_read_from_text_or_taken_typed(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    text: dict[str, ParamValue] = {"share": "1e-1", "count": "4", "quiet": "TRUE", "label": "7", "side": "short"}
    typed: dict[str, ParamValue] = {"share": 0.1, "count": 4, "quiet": True, "label": "7", "side": "short"}
    assert load_strategy(path, text, []).params == load_strategy(path, typed, []).params == typed
    whole = load_strategy(path, {"share": 1}, []).params["share"]
    assert (whole, type(whole)) == (1.0, float)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("share", "much", "float"),
        ("share", "nan", "float"),
        ("share", True, "float"),
        ("share", 10**400, "float"),
        ("count", "1.5", "int"),
        ("count", 3.0, "int"),
        ("count", True, "int"),
        ("count", [3], "int"),
        ("quiet", "no", "bool"),
        ("quiet", 1, "bool"),
        ("label", 7, "str"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, name: str, value: Any, kind: str) -> None:
    message = refused(load_strategy, write(tmp_path, GOOD), {name: value}, [])
    assert f"parameter '{name}' must be of type {kind}" in message


def test_a_literal_takes_only_its_options(tmp_path: Path) -> None:
    message = refused(load_strategy, write(tmp_path, GOOD), {"side": "shrot"}, [])
    assert "cannot be 'shrot'" in message
    assert "did you mean 'short'?" in message


def test_an_unknown_parameter_names_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'share'?" in refused(load_strategy, write(tmp_path, GOOD), {"shares": 1}, [])
    assert "it has none" in refused(load_strategy, "buy_and_hold", {"step": 1}, SHIPPED)


def test_an_unknown_name_names_the_nearest() -> None:
    message = refused(load_strategy, "forcast_sign", {}, SHIPPED)
    assert "did you mean 'forecast_sign'?" in message
    assert "qtrade strategies" in message


def test_the_first_folder_with_a_name_wins(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "forecast_sign.py")
    assert "share" in load_strategy("forecast_sign", {}, [tmp_path, *SHIPPED]).params
    assert "threshold" in load_strategy("forecast_sign", {}, [*SHIPPED, tmp_path]).params
    assert "threshold" in load_strategy("forecast_sign", {}, [tmp_path / "absent", *SHIPPED]).params


def test_the_folders_are_the_current_one_and_what_comes_with_qtrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strategies").mkdir()
    write(tmp_path / "strategies", GOOD, "own.py")
    names = [info.name for info in list_strategies(strategy_folders())]
    assert names == sorted(["own", *(path.stem for path in SHIPPED[0].glob("*.py"))])


def test_the_list_shows_summary_and_typed_parameters(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    (info,) = list_strategies([tmp_path])
    assert (info.name, info.summary, info.problem) == ("mine", "Half of everything.", "")
    assert [dataclasses.astuple(parameter) for parameter in info.parameters] == [
        ("share", "float", 0.5, "How much to hold, in all."),
        ("count", "int", 3, ""),
        ("quiet", "bool", False, ""),
        ("label", "str", "x", ""),
        ("side", "Literal['long', 'short']", "long", ""),
    ]
    assert strategy_parameters("mine", [tmp_path]) == strategy_parameters(str(info.path), []) == info.parameters
    assert "did you mean 'mine'?" in refused(strategy_parameters, "mines", [tmp_path])


def test_a_broken_file_is_listed_with_its_problem_and_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "def (", "broken.py")
    write(tmp_path, "def (", "_hidden.py")
    broken, good = list_strategies([tmp_path])
    assert "SyntaxError" in broken.problem
    assert not good.problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\ndef weights(:\n    pass\n", ["SyntaxError", "line 2: def weights(:"]),
        ("import nothing_of_this_name\n", ["ModuleNotFoundError", "line 1: import nothing_of_this_name"]),
        ("x = 1\n\ny = x / 0\n", ["ZeroDivisionError: division by zero", "line 3: y = x / 0"]),
        ("import sys\nsys.exit(0)\n", ["SystemExit", "line 2: sys.exit(0)"]),
        ("x = 1\n", ["must define one class, and defines none", "forecast_sign.py"]),
        (GOOD + "class Other:\n    pass\n", ["defines Half, Other", "underscore"]),
        (GOOD.replace("(frozen=True)", ""), ["line 14: 'Half' is not a frozen dataclass", "@dataclass(frozen=True)"]),
        (GOOD.replace("@dataclass(frozen=True)", ""), ["'Half' is not a frozen dataclass"]),
        (GOOD.replace("def weights", "def weight"), ["line 14: 'Half' has no method weights"]),
        (GOOD.replace("share: float = 0.5", "share: float"), ["'share' has no default", "share: float = ..."]),
        (GOOD.replace("float = 0.5", "list[int] = None"), ["'share' must be of type bool, int", "not list[int]"]),
        (GOOD.replace("float = 0.5", "Fraction = 0.5"), ["types cannot be understood", "NameError"]),
        (GOOD.replace("float = 0.5", 'float = "a"'), ["'share' must be of type float, not 'a'"]),
    ],
)
def test_a_bad_file_is_a_usage_error_that_shows_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    message = refused(load_strategy, write(tmp_path, text), {}, [])
    assert "mine.py" in message
    for part in expected:
        assert part in message


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"\xff\xfe\x00\x01")
    assert "cannot be loaded" in refused(load_strategy, str(tmp_path / "mine.py"), {}, [])


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(load_strategy, str(tmp_path / "absent.py"), {}, [])
    assert "cannot read" in refused(load_strategy, str(tmp_path), {}, [])


def test_a_parameter_refused_by_the_strategy_itself_shows_why(tmp_path: Path) -> None:
    check = (
        "    def __post_init__(self):\n        if self.count < 1:\n            raise ValueError('count is too low')\n"
    )
    path = write(tmp_path, GOOD.replace("    def weights", check + "    def weights"))
    message = refused(load_strategy, path, {"count": 0}, [])
    assert "count is too low" in message
    assert "line 25: raise ValueError" in message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return flat.to_numpy()", ["a DataFrame is wanted, not ndarray"]),
        ("return None", ["a DataFrame is wanted, not NoneType"]),
        ("return flat[1:]", ["wanted 60 rows of A, B from 2024-01-01", "got 59 rows of A, B from 2024-01-02"]),
        ("return flat[['B', 'A']]", ["got 60 rows of B, A", "reindex"]),
        ("return flat[:0]", ["got 0 rows of A, B"]),
        ("return flat.rename(columns={'A': 'X'})", ["wanted 60 rows of A, B", "got 60 rows of X, B"]),
        ("return flat.shift(freq='1D')", ["got 60 rows of A, B from 2024-01-02"]),
        ("return flat.astype(str) + 'x'", ["are not numbers", "0.0x"]),
        ("flat.iloc[3, 1] = np.nan\nreturn flat", ["the weight nan of B at 2024-01-04", "1 of 60 bars"]),
        ("flat.iloc[4, 0] = -np.inf\nreturn flat", ["the weight -inf of A at 2024-01-05"]),
        ("flat.iloc[5:, 0] = 1.5\nreturn flat", ["the weight 1.5 of A at 2024-01-06", "outside [-1, 1]", "55 of 60"]),
        ("flat.iloc[6, :] = -0.6\nreturn flat", ["of A at 2024-01-07", "absolute sum exceed 1"]),
        ("return flat.loc['never']", ["KeyError", "line 9: return flat.loc['never']"]),
        ("raise SystemExit(3)", ["SystemExit: 3", "line 9"]),
        ("return forecasts.expected(7)", ["step 7 lies outside the forecast path", "from 1 to 6"]),
    ],
)
def test_bad_weights_are_a_usage_error_that_says_where(tmp_path: Path, body: str, expected: list[str]) -> None:
    message = refused(decide, mine(tmp_path, body), *make_market())
    for part in expected:
        assert part in message


def test_equal_parts_that_sum_to_a_bit_more_than_one_are_fine() -> None:
    market = make_market(symbols=tuple(f"S{number}" for number in range(20)))
    weights = decide(load_strategy("buy_and_hold", {}, SHIPPED), *market)
    assert weights.to_numpy()[0].sum() > 1


def test_a_strategy_cannot_change_the_bars_it_is_judged_by(tmp_path: Path) -> None:
    body = "bars.close.iloc[:] = 1.0\nbars.open['A'] = 2.0\nreturn flat"
    bars, forecasts = make_market()
    before = bars.fingerprint()
    decide(mine(tmp_path, body), bars, forecasts)
    assert bars.fingerprint() == before


@pytest.mark.parametrize("array", ["path", "symbol", "fold", "seed", "residuals[0, 0, 'A']"])
def test_a_strategy_cannot_write_into_forecasts(tmp_path: Path, array: str) -> None:
    message = refused(decide, mine(tmp_path, f"forecasts.{array}[0] = 0.0\nreturn flat"), *make_market())
    assert "read-only" in message
    assert f"line 9: forecasts.{array}[0] = 0.0" in message


def test_what_is_worked_out_from_forecasts_is_remembered_between_decisions(tmp_path: Path) -> None:
    body = "type(self).seen = [*getattr(type(self), 'seen', []), forecasts.on(bars)]\nreturn flat"
    loaded, market = mine(tmp_path, body), make_market()
    for _ in range(2):
        decide(loaded, *market)
    first, second = vars(type(loaded.instance))["seen"]
    assert first is second


def test_leverage_raises_both_limits_and_is_named_where_it_would_help(tmp_path: Path) -> None:
    market = make_market()
    loaded = mine(tmp_path, "return flat + 0.75")
    assert (decide(loaded, *market, leverage=1.5) == 0.75).all(axis=None)
    message = refused(decide, loaded, *market)
    assert "exceed 1\n" in message
    assert "backtest.leverage" in message
    assert "the bar's absolute sum exceed 1.25" in refused(decide, loaded, *market, leverage=1.25)
    twice = mine(tmp_path, "flat['A'] = -2.0\nreturn flat")
    assert "lies outside [-1.5, 1.5]" in refused(decide, twice, *market, leverage=1.5)
    assert (decide(twice, *market, leverage=2.0)["A"] == -2).all()
    audit(twice, *market, seed=0, leverage=2.0)


def test_an_edited_file_is_read_anew(tmp_path: Path) -> None:
    bars, forecasts = make_market()
    for value in (0.1, 0.2):
        assert (decide(mine(tmp_path, f"return flat + {value}"), bars, forecasts) == value).all(axis=None)


@pytest.mark.parametrize(
    "body",
    [
        "return flat.mask(bars.close.shift(-1) > bars.close, 0.5)",
        "return flat.mask(bars.close > bars.close.mean(), 0.5)",
        "return flat + 0.1 / bars.volume.max()",
        "return flat.mask(forecasts.expected(1).reindex(bars.index).shift(-1) > 0, 0.5)",
        "return flat + 0.1 * len(bars) / 60",
        "return flat + 0.1 * len({key[0] for key in forecasts.residuals})",
        "return flat + 0.1 * len(forecasts.validated)",
    ],
)
def test_audit_finds_a_strategy_that_looks_ahead(tmp_path: Path, body: str) -> None:
    bars, forecasts = make_market()
    # A second fold in the last ten bars, so that its residuals are of the future for most cuts.
    late = np.asarray(forecasts.origin >= bars.index[-10]).astype(np.int64)
    banks = {(fold, 0, symbol): np.zeros((3, 6)) for fold in (0, 1) for symbol in "AB"}
    origins = dict.fromkeys(banks, bars.index[3:6])
    forecasts = dataclasses.replace(forecasts, fold=late, residuals=banks, validated=origins)
    with pytest.raises(IntegrityError, match=r"'mine': the weight of [AB] at 2024-.* moves") as caught:
        audit(mine(tmp_path, body), bars, forecasts, seed=1)
    assert caught.value.exit_code == 4
    assert "it looks ahead" in str(caught.value)


def test_audit_finds_a_leak_that_waits_for_a_rare_move_by_making_one_up(tmp_path: Path) -> None:
    bars, forecasts = make_market()
    loaded = mine(tmp_path, "return flat.mask(bars.close.shift(-1) > 1.2 * bars.close, 0.5)")
    assert (decide(loaded, bars, forecasts) == 0).all(axis=None)
    with pytest.raises(IntegrityError, match=r"from 0 to 0\.5 when the future of .* is changed"):
        audit(loaded, bars, forecasts, seed=1, cuts=20)


def test_audit_makes_up_the_residuals_of_later_folds(tmp_path: Path) -> None:
    bars, forecasts = make_market()
    late = np.asarray(forecasts.origin >= bars.index[-10]).astype(np.int64)
    forecasts = dataclasses.replace(
        forecasts, fold=late, residuals={(fold, 0, symbol): np.zeros((3, 6)) for fold in (0, 1) for symbol in "AB"}
    )
    loaded = mine(tmp_path, "return flat + 0.5 * any(bank.any() for bank in forecasts.residuals.values())")
    with pytest.raises(IntegrityError, match=r"from 0 to 0\.5 when the future of .* is changed"):
        audit(loaded, bars, forecasts, seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_audit_cuts_near_both_ends_of_the_forecasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    notebook = ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", notebook)
    body = "import notebook\nnotebook.seen = [*getattr(notebook, 'seen', []), len(bars)]\nreturn flat"
    audit(mine(tmp_path, body), *make_market(90), seed=seed)
    cuts = sorted({length - 1 for length in vars(notebook)["seen"]} - {89})
    # There are forecasts from bar 45 on, and the last of them with a future is that of bar 88.
    assert len(cuts) == 5
    assert 45 <= cuts[0] < 49
    assert 85 <= cuts[-1] <= 88


def test_audit_finds_a_strategy_that_is_not_deterministic(tmp_path: Path) -> None:
    loaded = mine(tmp_path, "return flat + np.random.default_rng().uniform(0, 0.1)")
    with pytest.raises(IntegrityError, match="when it is asked twice") as caught:
        audit(loaded, *make_market(), seed=1)
    assert "not deterministic" in str(caught.value)


# Weights from a memory of the first close ever seen after each bar, which a call on all bars fills with the future.
REMEMBER = """for now, then in zip(bars.index, bars.index[1:]):
    memory.setdefault(now, bars.close.loc[then] > bars.close.loc[now])
return flat + 0.5 * pd.DataFrame(memory).T.reindex(bars.index).astype(float).fillna(0.0)"""


@pytest.mark.parametrize(
    "memory",
    [
        "memory = globals().setdefault('MEMORY', {})",
        "memory = type(self).__dict__.get('memory') or {}\ntype(self).memory = memory",
        "memory = vars(self).setdefault('memory', {})",
        "import notebook\nmemory = vars(notebook).setdefault('memory', {})",
    ],
    ids=["module", "class", "instance", "another module"],
)
@pytest.mark.parametrize("used", [False, True])
def test_audit_is_not_fooled_by_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, used: bool
) -> None:
    bars, forecasts = make_market()
    loaded = mine(tmp_path, f"{memory}\n{REMEMBER}")
    monkeypatch.setitem(sys.modules, "notebook", ModuleType("notebook"))
    if used and "notebook" not in memory:
        decide(loaded, bars, forecasts)
    with pytest.raises(IntegrityError, match="it looks ahead"):
        audit(loaded, bars, forecasts, seed=1)


def test_audit_keeps_the_parameters(tmp_path: Path) -> None:
    body = GOOD.replace("return pd", "assert self.share == 0.25\n        return pd")
    audit(load_strategy(write(tmp_path, body), {"share": "0.25"}, []), *make_market(), seed=1)


def test_audit_judges_what_was_loaded_even_if_the_file_has_changed(tmp_path: Path) -> None:
    causal = mine(tmp_path, "return flat")
    mine(tmp_path, "return flat.mask(bars.close.shift(-1) > bars.close, 0.5)")
    audit(causal, *make_market(), seed=1)


def test_audit_accepts_a_causal_strategy_of_bars_and_forecasts(tmp_path: Path) -> None:
    body = """known = forecasts.expected(6).reindex(bars.index).notna()
return flat.mask(bars.close > bars.close.rolling(5).mean(), 0.5) * known"""
    audit(mine(tmp_path, body), *make_market(), seed=1, cuts=20)


def test_audit_says_when_a_strategy_fails_only_without_the_future(tmp_path: Path) -> None:
    message = refused(audit, mine(tmp_path, "bars.close.iloc[59]\nreturn flat"), *make_market(), seed=1)
    assert "failed while deciding, when the future of 2024-" in message
    assert "IndexError" in message


def test_audit_does_not_blame_the_future_for_a_strategy_that_always_fails(tmp_path: Path) -> None:
    message = refused(audit, mine(tmp_path, "return flat.loc['never']"), *make_market(), seed=1)
    assert "failed while deciding" in message
    assert "the future" not in message


def test_audit_of_a_single_bar_has_no_future_to_remove() -> None:
    bars, forecasts = make_market()
    audit(load_strategy("buy_and_hold", {}, SHIPPED), bars.rows(0, 1), forecasts, seed=0)


def folder_of(tmp_path: Path) -> list[Path]:
    """A folder with the strategies `half` and `outer`."""
    write(tmp_path, GOOD, "half.py")
    write(tmp_path, OUTER, "outer.py")
    return [tmp_path]


HALF = "half(count={count}, label='x', quiet=False, share={share}, side='long')"


def test_parameters_may_stand_in_brackets_and_others_go_before_them(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    spec = f"{path}(share=0.25, count=7, side=short)"
    loaded = load_strategy(spec, {"count": "8"}, [])
    assert (loaded.name, loaded.path, loaded.asked) == ("mine", Path(path), path)
    assert loaded.params == {"share": 0.25, "count": 8, "quiet": False, "label": "x", "side": "short"}
    assert loaded.spec == f"'{path}'(count=8, label='x', quiet=False, share=0.25, side='short')"
    assert load_strategy(loaded.spec, {}, []).params == loaded.params


def test_strategies_among_the_parameters_decide(tmp_path: Path) -> None:
    bars, forecasts = make_market()
    loaded = load_strategy("outer(of=[half(share=0.2)])", {}, folder_of(tmp_path))
    np.testing.assert_allclose(decide(loaded, bars, forecasts), 0.5 * 0.25 + 0.1 / 10)
    np.testing.assert_allclose(decide(loaded.afresh(), bars, forecasts), 0.5 * 0.25 + 0.1 / 10)
    assert (decide(load_strategy("outer(of=[])", {}, [tmp_path]), bars, forecasts) == 0.125).all(axis=None)


def test_name_and_parameters_tell_nested_strategies_apart(tmp_path: Path) -> None:
    loaded = load_strategy("outer(of=[half(share=1)])", {}, folder_of(tmp_path))
    base, of = HALF.format(count=4, share=0.5), f"[{HALF.format(count=3, share=1.0)}]"
    assert loaded.params == {"base": base, "of": of, "share": 0.5}
    assert loaded.spec == f"outer(base={base}, of={of}, share=0.5)"
    for again in (load_strategy(loaded.spec, {}, [tmp_path]), load_strategy("outer", loaded.params, [tmp_path])):
        assert (again.params, again.spec, again.sha256) == (loaded.params, loaded.spec, loaded.sha256)


def test_parameters_of_nested_strategies_are_set_through_dots(tmp_path: Path) -> None:
    params: dict[str, ParamValue] = {"base.share": "0.1", "of.1.count": 9, "share": 1.0, "base": "half(count=5)"}
    loaded = load_strategy("outer(base=half(share=0.9))", params, folder_of(tmp_path))
    assert loaded.params["base"] == HALF.format(count=5, share=0.1)
    assert loaded.params["of"] == f"[{HALF.format(count=3, share=0.5)}, {HALF.format(count=9, share=0.5)}]"
    deep = load_strategy("outer(base=outer)", {"base.of.0.share": 0.3}, [tmp_path])
    assert "of=[half(count=3, label='x', quiet=False, share=0.3" in deep.spec


@pytest.mark.parametrize(
    ("spec", "params", "expected"),
    [
        ("outer(base=half(shares=1))", {}, ["strategy 'half' has no parameter 'shares'", "did you mean 'share'?"]),
        ("outer", {"base.shares": 1}, ["strategy 'half' has no parameter 'shares'", "did you mean 'share'?"]),
        ("outer", {"bse.share": 1}, ["strategy 'outer' has no parameter 'bse'", "did you mean 'base'?"]),
        ("outer", {"share.x": 1}, ["strategy 'outer', parameter 'share' is no strategy", "no 'share.x'"]),
        ("outer", {"of.2.share": 1}, ["a list of 2 strategies, in which there is no '2.share'", "count them from 0"]),
        ("outer", {"of.share": 1}, ["in which there is no 'share'", "of.0.step=6"]),
        ("outer", {"base": 3}, ["parameter 'base' must be one strategy, not '3'"]),
        ("outer(base=[half])", {}, ["parameter 'base' must be one strategy, not '[half]'"]),
        ("outer(base=haf)", {}, ["there is no strategy 'haf'", "did you mean 'half'?"]),
        ("outer(base=half(count=much))", {}, ["strategy 'half', parameter 'count' must be of type int, not 'much'"]),
        ("outer(base=half", {}, ["the strategy 'outer(base=half' cannot be read", "never closed"]),
    ],
)
def test_a_mistake_in_a_nested_strategy_names_it(
    tmp_path: Path, spec: str, params: dict[str, ParamValue], expected: list[str]
) -> None:
    message = refused(load_strategy, spec, params, folder_of(tmp_path))
    for part in expected:
        assert part in message


def test_the_hash_covers_the_files_of_nested_strategies(tmp_path: Path) -> None:
    folders = folder_of(tmp_path)
    before = load_strategy("outer", {}, folders)
    assert before.file.sha256 == hashlib.sha256(OUTER.encode()).hexdigest() != before.sha256
    assert load_strategy("outer(share=0.1)", {}, folders).sha256 == before.sha256
    write(tmp_path, GOOD + "# edited", "half.py")
    after = load_strategy("outer", {}, folders)
    assert after.file.sha256 == before.file.sha256
    assert after.sha256 != before.sha256
    assert before.afresh().sha256 == before.sha256
    assert load_strategy("outer(of=[])", {}, folders).sha256 != after.sha256


def test_a_nested_strategy_that_fails_is_blamed_on_its_own_line(tmp_path: Path) -> None:
    folders, market = folder_of(tmp_path), make_market()
    loaded = {}
    for number, body in enumerate(
        ["raise KeyError(3)", "return flat[1:]", "flat.iloc[2, 0] = np.nan\n        return flat"]
    ):
        write(tmp_path, f"{HEAD}        {body}\n", f"bad{number}.py")
        loaded[number] = load_strategy(f"outer(of=[half, bad{number}])", {}, folders)
    failing = refused(decide, loaded[0], *market)
    assert "strategy 'bad0' failed while deciding" in failing
    assert f"{tmp_path / 'bad0.py'}, line 9: raise KeyError(3)" in failing
    assert "the weights of strategy 'bad1': index and symbols" in refused(decide, loaded[1], *market)
    assert "strategy 'bad2': the weight nan of A at 2024-01-03" in refused(decide, loaded[2], *market)


def test_limits_hold_for_what_is_decided_and_not_for_its_parts(tmp_path: Path) -> None:
    folders = folder_of(tmp_path)
    weights = decide(load_strategy("outer(base=half(share=2), of=[])", {}, folders), *make_market())
    assert (weights == 0.5).all(axis=None)


@pytest.mark.parametrize(
    ("first", "second"), [("one", "one"), ("two", "one"), ("two(share=1)", "one(share=2)"), ("./two.py", "./one.py")]
)
def test_a_strategy_that_contains_itself_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = folder_of(tmp_path)
    for name, inner in (("one", first), ("two", second)):
        write(tmp_path, OUTER.replace("half(count=4)", inner), f"{name}.py")
    assert "contains itself" in refused(load_strategy, "one", {}, folders)
    assert load_strategy("one(base=half)", {}, folders).nested


def test_a_strategy_may_hold_another_of_its_kind(tmp_path: Path) -> None:
    weights = decide(load_strategy("outer(base=outer(of=[]), of=[])", {}, folder_of(tmp_path)), *make_market())
    assert (weights == 0.0625).all(axis=None)


def test_the_list_shows_nested_strategies_as_text(tmp_path: Path) -> None:
    of = {parameter.name: parameter for parameter in strategy_parameters("outer", folder_of(tmp_path))}
    assert dataclasses.astuple(of["base"]) == ("base", "Strategy", "half(count=4)", "What is held.")
    assert dataclasses.astuple(of["of"]) == ("of", "tuple[Strategy, ...]", "[half, half]", "")


@pytest.mark.parametrize("default", ['"half"', "3", "(nested('half'), 3)"])
def test_a_default_that_is_no_strategy_is_refused(tmp_path: Path, default: str) -> None:
    path = write(tmp_path, OUTER.replace('nested("half(count=4)")', default))
    assert 'write it as nested("forecast_sign")' in refused(load_strategy, path, {}, [])


def test_a_strategy_that_was_only_named_cannot_decide() -> None:
    assert "'half' is not loaded" in refused(nested("half").weights, *make_market())


@pytest.mark.parametrize("where", ["base=ahead", "of=[half, ahead]"])
def test_audit_finds_a_nested_strategy_that_looks_ahead_or_remembers(tmp_path: Path, where: str) -> None:
    folders = folder_of(tmp_path)
    body = "memory = globals().setdefault('MEMORY', {})\n" + REMEMBER
    write(tmp_path, HEAD + "".join(f"        {line}\n" for line in body.split("\n")), "ahead.py")
    with pytest.raises(IntegrityError, match=r"strategy 'outer': .* moves") as caught:
        audit(load_strategy(f"outer({where})", {}, folders), *make_market(), seed=1)
    assert "it looks ahead" in str(caught.value)


def test_the_title_is_the_same_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD, encoding="utf-8")
    by_path = load_strategy(str(tmp_path / "good.py"), {}, ())
    by_name = load_strategy("good", {}, [tmp_path])
    assert by_path.spec != by_name.spec
    assert by_path.title == by_name.title == by_name.spec
    around = [
        load_strategy("vol_target", {"base": asked}, [*SHIPPED, tmp_path]) for asked in ("good", f"'{by_path.path}'")
    ]
    assert around[0].title == around[1].title
    assert around[0].title.startswith("vol_target(base=good(")
