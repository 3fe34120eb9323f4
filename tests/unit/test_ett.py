"""The ETTh1 benchmark follows its protocol: every window, scales of the training rows, simple forecasts as they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ett
import numpy as np
import pandas as pd
import pytest
import torch

from qtrade.errors import DataError, UsageError
from qtrade.types import Float64Array
from qtrade.windows import WindowConfig

BORDERS = ett.Borders(train=90, valid=40, test=30)
WINDOW = WindowConfig(seq_len=12, label_len=6, horizon=4)
COLUMNS = ("HUFL", "OT", "LULL")


def table(rows: int = 165) -> pd.DataFrame:
    """Hours of a day, a slow wave and noise, under the names and stamps of the real file."""
    hour = np.arange(rows)
    noise = np.random.default_rng(0).normal(size=(rows, len(COLUMNS)))
    level = np.stack([np.sin(hour / 24 * 2 * np.pi), 20 + np.cos(hour / 30), 3 * np.sin(hour / 12 * np.pi)], axis=1)
    frame = pd.DataFrame(level + 0.1 * noise, columns=COLUMNS)
    frame.insert(0, "date", pd.date_range("2016-07-01", periods=rows, freq="h").strftime("%Y-%m-%d %H:%M:%S"))
    return frame


def written(folder: Path, frame: pd.DataFrame) -> Path:
    path = folder / "ett.csv"
    frame.to_csv(path, index=False)
    return path


def tiny_plans() -> dict[str, dict[str, Any]]:
    plans = {}
    for mode, plan in ett.REDUCED.items():
        network = plan.network.model_copy(update={"d_model": 8, "n_heads": 2, "d_ff": 8})
        train = plan.train.model_copy(update={"epochs": 1})
        plans[mode] = replace(plan, window=WINDOW, network=network, train=train)
    return {"reduced": plans}


def call(*arguments: str | int | Path) -> None:
    ett.main([str(part) for part in arguments], BORDERS, tiny_plans())


class TestWindows:
    @pytest.mark.parametrize(("seq_len", "counts"), [(48, [8569, 2857, 2857]), (720, [7897, 2857, 2857])])
    def test_parts_of_etth1_have_the_published_number_of_windows(self, seq_len: int, counts: list[int]) -> None:
        origins = ett.ETTH1.origins(WindowConfig(seq_len=seq_len, label_len=48, horizon=24))
        assert list(origins) == ["train", "valid", "test"]
        assert [len(part) for part in origins.values()] == counts

    def test_labels_fill_their_part_and_only_their_part(self) -> None:
        start = 0
        for part, origins in BORDERS.origins(WINDOW).items():
            stop = start + getattr(BORDERS, part)
            assert origins[0] + 1 == max(start, WINDOW.seq_len)
            assert origins[-1] + WINDOW.horizon == stop - 1
            start = stop


class TestData:
    def test_later_rows_do_not_move_the_scale(self, tmp_path: Path) -> None:
        clean = ett.load(written(tmp_path, table()), "OT", "M", BORDERS)
        poisoned = table()
        poisoned.loc[BORDERS.train :, list(COLUMNS)] *= 1000
        changed = ett.load(written(tmp_path, poisoned), "OT", "M", BORDERS)
        np.testing.assert_array_equal(changed.scaled[: BORDERS.train], clean.scaled[: BORDERS.train])
        assert np.abs(changed.scaled[BORDERS.train :]).max() > 100

    def test_a_column_has_mean_zero_and_population_deviation_one_in_training(self) -> None:
        scaled = ett.scale(np.array([[1.0], [3.0], [7.0], [100.0]]), 2)
        np.testing.assert_array_equal(scaled, [[-1.0], [1.0], [5.0], [98.0]])

    def test_rows_after_the_test_part_are_not_even_read_as_numbers(self, tmp_path: Path) -> None:
        frame = table().astype(object)
        frame.loc[160:, "OT"] = "unknown"
        assert len(ett.load(written(tmp_path, frame), "OT", "S", BORDERS).scaled) == 160

    @pytest.mark.parametrize("order", [("OT", "HUFL", "LULL"), ("HUFL", "OT", "LULL"), ("HUFL", "LULL", "OT")])
    def test_the_target_is_found_by_name_wherever_it_stands(self, order: tuple[str, ...], tmp_path: Path) -> None:
        path = written(tmp_path, table()[["date", *order]])
        single, every = (ett.load(path, "OT", mode, BORDERS) for mode in "SM")
        expected = ett.scale(table()[["OT"]].to_numpy()[:160], 90)
        assert single.columns == ("OT",)
        assert every.columns == ("HUFL", "LULL", "OT")
        np.testing.assert_allclose(single.scaled, expected, rtol=1e-12)
        np.testing.assert_array_equal(every.scaled[:, -1:], single.scaled)

    def test_stamps_are_those_of_the_rows(self, tmp_path: Path) -> None:
        index = ett.load(written(tmp_path, table()), "OT", "S", BORDERS).index
        assert index[0] == pd.Timestamp("2016-07-01 00:00", tz="UTC")
        assert index[-1] == pd.Timestamp("2016-07-07 15:00", tz="UTC")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda frame: frame.drop(columns="date"), "no column 'date'"),
            (lambda frame: frame.iloc[:159], "has 159 rows, but 160 are needed"),
            (lambda frame: frame.drop(index=70), "data row 71 .* is not one hour after"),
            (lambda frame: frame.assign(date=frame["date"].replace(frame["date"][3], "soon")), "data row 4 .*one hour"),
            (lambda frame: frame.assign(OT=frame["OT"].where(frame.index != 7)), "'OT' in data row 8 .* not a finite"),
            (lambda frame: frame.assign(HUFL=1.5), "'HUFL' of .* never changes in the training rows"),
        ],
    )
    def test_a_file_that_does_not_fit_is_refused_with_the_reason(
        self, spoil: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match=message):
            ett.load(written(tmp_path, spoil(table())), "OT", "M", BORDERS)

    def test_a_target_that_is_not_there_is_named_with_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no column 'LUL' to predict\n  fix: did you mean 'LULL'"):
            ett.load(written(tmp_path, table()), "LUL", "S", BORDERS)


class TestSimpleForecasts:
    SCALED = np.array([[1.0, 10.0], [2.0, 30.0], [4.0, 20.0], [8.0, 50.0], [16.0, 40.0]])

    def test_last_values_are_repeated_in_their_order(self) -> None:
        origins = np.array([1, 2])
        np.testing.assert_array_equal(
            ett.repeat_last(self.SCALED, origins, 2, 1), [[[2, 30], [2, 30]], [[4, 20], [4, 20]]]
        )
        np.testing.assert_array_equal(
            ett.repeat_last(self.SCALED, origins, 3, 2),
            [[[1, 10], [2, 30], [1, 10]], [[2, 30], [4, 20], [2, 30]]],
        )

    def test_errors_are_those_of_a_hand_computation(self) -> None:
        origins = np.array([1, 2])
        actual = ett.labels(self.SCALED, origins, 2)
        np.testing.assert_array_equal(actual, [[[4, 20], [8, 50]], [[8, 50], [16, 40]]])
        found = ett.errors(ett.repeat_last(self.SCALED, origins, 2, 1), actual)
        misses = [2, 10, 6, 20, 4, 30, 12, 20]
        assert found == {"mse": sum(miss**2 for miss in misses) / 8, "mae": sum(misses) / 8}

    def test_errors_refuse_shapes_that_would_broadcast(self) -> None:
        with pytest.raises(ValueError, match="differ"):
            ett.errors(np.zeros((3, 2, 7)), np.zeros((3, 2, 1)))

    def test_the_linear_forecast_is_least_squares_on_the_training_windows_of_all_columns(self) -> None:
        scaled = np.random.default_rng(1).normal(size=(160, 2)).cumsum(axis=0)
        parts = BORDERS.origins(WINDOW)

        def windows(part: str, column: int) -> tuple[Float64Array, Float64Array]:
            past = [[1.0, *scaled[origin - 11 : origin + 1, column]] for origin in parts[part]]
            return np.array(past), np.array([scaled[origin + 1 : origin + 5, column] for origin in parts[part]])

        past, label = (np.concatenate(both) for both in zip(*(windows("train", c) for c in (0, 1)), strict=True))
        weight = np.linalg.lstsq(past, label)[0]
        expected = np.stack([windows("test", c)[0] @ weight for c in (0, 1)], axis=2)
        found = ett.linear(scaled, parts, WINDOW, penalties=(0.0,))
        assert found.shape == (27, 4, 2)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_validation_chooses_the_penalty(self) -> None:
        scaled = np.random.default_rng(2).normal(size=(160, 1))
        parts = BORDERS.origins(WINDOW)
        actual = ett.labels(scaled, np.array(parts["valid"]), WINDOW.horizon)
        on_valid = {**parts, "test": parts["valid"]}
        losses = {
            penalty: ett.errors(ett.linear(scaled, on_valid, WINDOW, (penalty,)), actual)["mse"]
            for penalty in ett.PENALTIES
        }
        best = min(losses, key=lambda penalty: losses[penalty])
        assert best not in (ett.PENALTIES[0], ett.PENALTIES[1])
        np.testing.assert_array_equal(
            ett.linear(scaled, parts, WINDOW), ett.linear(scaled, parts, WINDOW, penalties=(best,))
        )


class TestRun:
    def test_both_modes_end_in_a_table_and_the_same_figures_as_json(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "ett.json"
        call(
            "--data", written(tmp_path, table()), "--seeds", 2, "--settings", "reduced", "--device", "cpu", "--out", out
        )
        printed, spoken = capsys.readouterr()
        document = json.loads(out.read_text(encoding="utf-8"))
        assert "M seed 1  epoch 1/1" in spoken

        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line[:1] == "|"]
        assert lines[0] == ["mode", "forecast", "past hours", "MSE", "MAE"]
        assert [line[:3] for line in lines[2:]] == [
            [mode, forecast, past]
            for mode, published in (("S", "720"), ("M", "48"))
            for forecast, past in (
                ("Informer, reduced settings, 2 seeds", "12"),
                ("Informer, as published", published),
                ("linear", "12"),
                ("last value repeated", "1"),
                ("last 24 values repeated", "24"),
            )
        ]
        for row, cells in zip(document["table"], lines[2:], strict=True):
            assert cells[3].startswith(f"{row['mse']:.3f}")
            assert ("±" in cells[3]) == (row["mse_spread"] is not None)
        assert lines[3][3:] == ["0.098", "0.247"]
        assert lines[8][3:] == ["0.577", "0.549"]

        for mode, columns in (("S", ["OT"]), ("M", ["HUFL", "LULL", "OT"])):
            told = document["modes"][mode]
            assert told["columns"] == columns
            assert told["windows"] == {"train": 75, "valid": 37, "test": 27}
            assert told["differs_from_published"]["network.d_model"] == {"published": 512, "here": 8}
            assert f"{mode} is reduced, so it is not the published experiment: window." in printed
            first, second = told["seeds"]
            assert first["mse"] != second["mse"]
            assert len(first["epochs"]) == 1
            row = next(row for row in document["table"] if row["mode"] == mode)
            assert row["mse"] == pytest.approx((first["mse"] + second["mse"]) / 2)
            assert row["mae_spread"] == pytest.approx(abs(first["mae"] - second["mae"]) / 2**0.5)

    def test_the_same_command_gives_the_same_figures(self, tmp_path: Path) -> None:
        path = written(tmp_path, table())
        found = []
        for name in ("first.json", "second.json"):
            call("--data", path, "--mode", "S", "--device", "cpu", "--out", tmp_path / name)
            found.append(json.loads((tmp_path / name).read_text(encoding="utf-8"))["table"])
        assert found[0] == found[1]

    def test_published_settings_differ_from_themselves_in_nothing_and_are_called_so(self, tmp_path: Path) -> None:
        series = ett.load(written(tmp_path, table()), "OT", "S", BORDERS)
        plan = tiny_plans()["reduced"]["S"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(ett.PUBLISHED, "S", plan)
            told, lines = ett.experiment("S", series, BORDERS, plan, [0], torch.device("cpu"))
        assert told["differs_from_published"] == {}
        assert lines[0].forecast == "Informer, published settings, 1 seed"

    def test_another_target_has_no_published_figure(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        call("--data", written(tmp_path, table()), "--mode", "S", "--target", "HUFL", "--device", "cpu")
        assert "as published" not in capsys.readouterr().out

    def test_what_the_network_learns_is_what_it_is_scored_by(self, tmp_path: Path) -> None:
        # A label one hour off would leave an error of 0.9, and columns in another order one of 2.
        hour = np.arange(160)
        series = ett.Series(
            pd.date_range("2016-07-01", periods=160, freq="h", tz="UTC"),
            np.sqrt(2) * np.stack([np.sin(hour), np.cos(hour)], axis=1),
            ("HUFL", "OT"),
        )
        plan = tiny_plans()["reduced"]["M"]
        train = plan.train.model_copy(
            update={"epochs": 20, "learning_rate": 0.03, "schedule": "cosine", "patience": 20}
        )
        plan = replace(plan, train=train, network=plan.network.model_copy(update={"dropout": 0.0}))
        found = ett.measure_seed("M", series, BORDERS.origins(WINDOW), plan, 0, torch.device("cpu"))
        assert found["mse"] < 0.1

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["--data", "absent.csv"], 3, "error: absent.csv cannot be read"),
            (["--data", "ett.csv", "--target", "OTT"], 2, "error: ett.csv has no column 'OTT'"),
            (["--data", "short.csv"], 3, "error: short.csv has 100 rows, but 160 are needed"),
            (["--data", "."], 3, "error: . cannot be read"),
            (
                ["--data", "ett.csv", "--out", "absent/ett.json"],
                2,
                "error: the folder of absent/ett.json does not exist",
            ),
            (["--data", "ett.csv", "--seeds", "0"], 2, "argument --seeds: 0 is less than 1"),
        ],
    )
    def test_wrong_use_ends_with_a_message_and_its_code(
        self,
        arguments: list[str],
        code: int,
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        written(tmp_path, table())
        table(100).to_csv(tmp_path / "short.csv", index=False)
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            call("--device", "cpu", *arguments)
        printed, complaint = capsys.readouterr()
        assert stopped.value.code == code
        assert message in complaint
        assert printed == ""


class TestSettings:
    def test_published_settings_are_those_of_the_authors_script(self) -> None:
        for mode, sizes in (("S", (720, 168, 24, 5)), ("M", (48, 48, 24, 3))):
            told = ett.PUBLISHED[mode].settings()
            lengths = tuple(told[f"window.{name}"] for name in ("seq_len", "label_len", "horizon"))
            assert (*lengths, told["network.factor"]) == sizes
            assert (told["network.attention"], told["network.distil"], told["network.mix"]) == ("prob", True, True)
            assert (told["network.d_layers"], told["network.zero_head"]) == (1, False)
            assert (told["train.schedule"], told["train.weight_decay"]) == ("type1", 0.0)

    def test_all_deviations_of_the_docstring_are_kept(self) -> None:
        assert len(ett.DEVIATIONS) == 4
        assert all(text.endswith(".") and "\n" not in text for text in ett.DEVIATIONS)

    def test_reduced_settings_keep_to_modes_horizon_and_batch(self) -> None:
        for mode, plan in ett.REDUCED.items():
            assert plan.window.horizon == ett.PUBLISHED[mode].window.horizon
            assert plan.train.batch_size == 32
            assert not plan.network.zero_head
