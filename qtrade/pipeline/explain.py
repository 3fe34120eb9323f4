"""Explain one trade of a saved backtest: what was forecast, decided, filled and paid, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtrade.config import RunConfig
from qtrade.errors import DataError, UsageError
from qtrade.files import read_json, read_parquet, sha256
from qtrade.forecasts import Forecasts
from qtrade.pipeline.episode import episode_of, units_before
from qtrade.pipeline.replay import backtest_name
from qtrade.pipeline.venue import Venue, make_venue
from qtrade.report.explanation import Decision, Episode, Explanation, Fill, Forecast, Levels, ModelFile, Outcome, Path_
from qtrade.runs import Run, check_run, fold_is_complete
