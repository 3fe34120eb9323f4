"""What docs/features.md says is so: its table is that of the code, its examples run and see no future."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qtrade.features.audit import audit_features
from qtrade.features.build import FeatureConfig, build
from qtrade.features.indicators import FEATURE_SETS, FEATURES
from qtrade.features.targets import FLOOR, TARGETS, VOLATILITY_BARS
from qtrade.types import Bars

TEXT = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """Cells of the table under a header line."""
    _, _, rest = TEXT.partition(f"{header}\n")
    lines = rest.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.fixture(scope="module")
def bars() -> Bars:
    generator = np.random.default_rng(8)
    index = pd.date_range("2020-01-01", periods=400, tz="UTC")
    close = pd.DataFrame(100 * np.exp(0.02 * generator.normal(size=(400, 2)).cumsum(0)), index, ["^GSPC", "^IXIC"])
    return Bars(close, close, close, close, close, interval="1d", calendar="24/7", periods_per_year=365.0)


def test_table_of_features_is_that_of_the_code() -> None:
    assert rows("| name | group | formula | warm-up | volume | sets |") == [
        [
            f"`{name}`",
            feature.group,
            feature.formula,
            str(feature.warmup),
            "needed" if feature.needs_volume else "",
            ", ".join(key for key, names in FEATURE_SETS.items() if name in names),
        ]
        for name, feature in FEATURES.items()
    ]


def test_table_of_targets_is_that_of_the_code() -> None:
    assert rows("| target | what is learned |") == [[f"`{name}`", what] for name, what in TARGETS.items()]
    assert (VOLATILITY_BARS, FLOOR) == (20, 1 / 4), "as the text says"


def test_every_key_of_the_table_is_a_setting() -> None:
    keys = {key for cells in rows("| key | values | |") for key in re.findall(r"`(\w+)`", cells[0])}
    assert keys == set(FeatureConfig.model_fields)


def test_warmups_in_the_text_are_those_of_the_sets() -> None:
    longest = {name: max(FEATURES[one].warmup for one in names) for name, names in FEATURE_SETS.items()}
    assert longest == {"minimal": 20, "default": 250, "all": 250}


@pytest.mark.parametrize(("number", "setting"), [(0, "module"), (1, "target")])
def test_examples_run_and_see_no_future(tmp_path: Path, bars: Bars, number: int, setting: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks) == 2
    path = tmp_path / "mine.py"
    path.write_text(blocks[number], encoding="utf-8")
    config = FeatureConfig.model_validate({"set": "none", setting: str(path)})
    built = build(bars, config)
    audit_features(bars, config)
    if setting == "module":
        assert built.features.names == ("stretch", "relative_return", "log_return")
        returns = built.features.values[10:, :, 2]
        np.testing.assert_allclose(
            built.features.values[10:, :, 1], returns - returns.mean(axis=1, keepdims=True), atol=1e-7
        )
    else:
        assert built.features.warmup == 50
        assert np.array_equal(
            built.target.as_returns(np.ones((2, 3)), np.array([60, 61]), np.array([0, 1])), np.ones((2, 3))
        )
