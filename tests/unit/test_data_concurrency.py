"""Four processes that write and read one entry at the same time always see whole entries, and lose none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qtrade.data.cache import Cache

# A program of its own: what pytest imports under its own rules cannot be found by the children of multiprocessing.
WORKER = """
import sys
from pathlib import Path

import pandas as pd

from qtrade.data.cache import Cache
from qtrade.data.raw import RAW_FIELDS, RawBars

cache, worker = Cache(Path(sys.argv[1])), int(sys.argv[2])
for turn in range(6):
    rows = 50 + worker  # entries of different lengths, each full of one number
    index = pd.date_range("2024-01-01", periods=rows, freq="D", tz="UTC", unit="ns")
    frame = pd.DataFrame(float(100 * worker + turn), index=index, columns=list(RAW_FIELDS))
    cache.write(RawBars("A", "yahoo", "1d", "24/7", "UTC", frame))
    read = cache.read("yahoo", "1d", "A").frame
    values = set(read.to_numpy().ravel())
    assert len(values) == 1 and len(read) == 50 + values.pop() // 100, "a torn entry"
"""


def test_four_processes_share_an_entry(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(4)]
    complaints = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, "".join(complaints)
    last = Cache(tmp_path).read("yahoo", "1d", "A").frame["close"].iloc[0]
    assert last % 100 == 5
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".parquet", ".json", ".lock"}


FETCHER = """
import sys
from pathlib import Path

import pandas as pd

from qtrade.data import fetch as fetching
from qtrade.data import sources
from qtrade.data.cache import Cache
from qtrade.data.config import DataConfig
from qtrade.data.raw import RAW_FIELDS, RawBars
from qtrade.progress import Silent

worker = int(sys.argv[2])


class Vendor:
    # Every process meets the vendor at another moment: it has more bars each time, and some see fewer than others.
    name = "yahoo"

    def __init__(self, rows):
        self.rows = rows

    def fetch(self, symbol, *, interval, start, end):
        index = pd.date_range("2024-01-01", periods=self.rows, freq="D", tz="UTC", unit="ns")
        frame = pd.DataFrame(1.0, index=index, columns=list(RAW_FIELDS)).assign(dividends=0.0, splits=0.0)
        for name in ("open", "high", "low", "close"):
            frame[name] = [100.0 + row % 7 for row in range(self.rows)]
        return RawBars(symbol, "yahoo", interval, "24/7", "UTC", frame[frame.index >= start] if start else frame)

    def due(self, stored, end):
        return self.rows > len(stored.frame)

    def earliest(self, interval):
        return None


for turn in range(5):
    vendor = Vendor(60 + 8 * turn + worker)
    sources.SOURCES = {"yahoo": lambda config, progress: vendor}
    config = DataConfig(source="yahoo", symbols=("A", f"OWN{worker}"))
    fetching.fetch(config, cache=Cache(Path(sys.argv[1])), progress=Silent()).require_all()
"""


def test_four_fetches_into_one_cache_lose_nothing(tmp_path: Path) -> None:
    """Whoever comes last, the entry that all of them add to has every bar that any of them saw, once and in order."""
    command = [sys.executable, "-c", FETCHER, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(4)]
    complaints = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, "".join(complaints)
    cache = Cache(tmp_path)
    shared = cache.read("yahoo", "1d", "A").frame
    assert len(shared) == 60 + 8 * 4 + 3
    assert shared["close"].tolist() == [100.0 + row % 7 for row in range(len(shared))]
    for worker in range(4):
        assert len(cache.read("yahoo", "1d", f"OWN{worker}").frame) == 92 + worker
    # Nothing was rewritten, so there is one file of bars for each of five symbols.
    assert len(list(tmp_path.rglob("*.parquet"))) == 5
