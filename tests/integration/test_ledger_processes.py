"""The trial ledger under four processes at once, and under one that is killed while it writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from qtrade.ledger import Ledger

# Programs of their own: what pytest imports under its own rules cannot be found by the children of multiprocessing.
SETTING = """
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pandas as pd

from qtrade.ledger import Ledger, Market, Trial

first, last = pd.Timestamp("2020-01-01", tz="UTC"), pd.Timestamp("2020-01-10", tz="UTC")
market = Market(("AAA",), "1d", first, last)
ledger = Ledger(Path(sys.argv[1]))


def made(author, numbers):
    return [Trial(market, 10, "s", author, "f", "sweep", f"{author}(n={number})", "code", "{}") for number in numbers]
"""
WRITER = """
author = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
new = 0
for start in range(0, 200, 20):
    numbers = range(start, start + 20)
    new += ledger.add(made(author, numbers) + made("everyone", numbers))
print(new)
"""
VICTIM = """
ledger.add(made("before", range(50)))
print(ledger.path.stat().st_size, flush=True)
connect = sqlite3.connect


def doomed(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.execute("PRAGMA cache_size = 5")  # pages reach the file long before the batch is complete
    connection.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), 60_000)  # halfway or so
    return connection


sqlite3.connect = doomed
ledger.add(made("victim", range(2000)))
"""


def test_four_processes_lose_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "runs" / "trials.sqlite")
    command = [sys.executable, "-c", SETTING + WRITER, str(ledger.path)]
    writers = [
        subprocess.Popen([*command, author], text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE) for author in "abcd"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.communicate(timeout=60) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4, "".join(complaint for _, complaint in said)
    expected = {f"{author}(n={number})" for author in [*"abcd", "everyone"] for number in range(200)}
    strategies = [trial.strategy for trial in ledger.trials()]
    assert set(strategies) == expected
    assert len(strategies) == len(expected), "what all four recorded is there once"
    assert sum(int(new) for new, _ in said) == len(expected), "and was new to one of them"


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_process_killed_while_it_adds_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.sqlite")
    command = [sys.executable, "-c", SETTING + VICTIM, str(ledger.path)]
    victim = subprocess.run(command, stdout=PIPE, text=True, check=False)
    assert victim.returncode == -signal.SIGKILL
    assert ledger.path.stat().st_size > int(victim.stdout), "a part of the batch was in the file"
    kept = ledger.trials()
    assert [trial.strategy for trial in kept] == [f"before(n={number})" for number in range(50)]
    assert ledger.add(kept) == 0
