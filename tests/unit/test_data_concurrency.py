"""Eight processes that write and read one entry at the same time always see whole entries, and lose none."""

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


def test_eight_processes_share_an_entry(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(number)], stderr=subprocess.PIPE, text=True) for number in range(8)]
    complaints = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, "".join(complaints)
    last = Cache(tmp_path).read("yahoo", "1d", "A").frame["close"].iloc[0]
    assert last % 100 == 5
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".parquet", ".json", ".lock"}
