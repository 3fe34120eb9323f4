"""What the tests in a browser share: the browser, reports of real runs, and a page that notes every complaint.

The browser is the system's own Chromium, found by its name or named in QTRADE_BROWSER. Without one these tests are
skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, Dialog, Error, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHECKS = Path(__file__).with_name("checks.js")
REPORTS = ("sample", "failing", "inconclusive", "empty", "fifty", "hostile", "invalid")

# A symbol is any 50 printable characters without spaces.
SYMBOLS = ("<script>alert(1)</script>", '"><img/src=x/onerror=alert(2)>', '=HYPERLINK("https://example.org","A")')
STRATEGY = "<img src=x onerror=alert(3)>.py"
BARS = "x</script><script>alert(4)</script>.csv"

_SMALL = (
    *("window.seq_len=16", "window.label_len=8", "window.horizon=4", "train.epochs=1", "informer.d_model=8"),
    *("informer.n_heads=2", "informer.d_ff=16", "informer.e_layers=1", "strategies.forecast_sign.step=4"),
    *("split.train_size=300", "split.valid_size=60", "split.step=300"),
)
_LINEAR = (*_SMALL, "model=ridge", "baselines=[]", "features.set=minimal")
_MADE = (*_LINEAR, "data.source=synthetic")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium once."""
    asked = os.environ.get("QTRADE_BROWSER")
    path = shutil.which(asked) if asked else next(filter(None, map(shutil.which, BROWSERS)), None)
    if asked and path is None:
        pytest.fail(f"there is no program '{asked}', which QTRADE_BROWSER names")
    if path is None:
        pytest.skip("there is no Chromium: install one (apt-get install chromium), or name one in QTRADE_BROWSER")
    with sync_playwright() as driver:
        try:
            chromium = driver.chromium.launch(executable_path=path)
        except Error as error:
            if asked:
                raise
            pytest.skip(f"{path} does not start: {error.message.splitlines()[0]}")
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page; what it complained of, and what it asked for, since it was opened."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def check(self, name: str, *arguments: object) -> list[str]:
        """Ask a function of ``checks.js`` what is wrong with the page as it is now."""
        found: list[str] = self.page.evaluate(f"arguments => checks.{name}(...arguments)", list(arguments))
        return found

    def refuse(self, dialog: Dialog) -> None:
        """Note a dialog, which only a script that came with a name would open."""
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="session")
def opened(browser: Browser) -> Callable[..., AbstractContextManager[Opened]]:
    """Open a file at a width in px, light or dark, and with no network; options are of a Playwright context."""

    @contextmanager
    def open_page(path: Path, width: int = 1000, scheme: str = "light", **options: Any) -> Iterator[Opened]:
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
            offline=True,
            **options,
        )
        try:
            page = context.new_page()
            page.set_default_timeout(10_000)
            seen = Opened(page)
            page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: seen.complaints.append(f"error: {error}"))
            page.on("dialog", seen.refuse)
            page.on("request", lambda request: seen.requests.append(request.url))
            page.add_init_script(path=CHECKS)
            page.goto(path.as_uri())
            yield seen
        finally:
            context.close()

    return open_page


@pytest.fixture(scope="session", params=REPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    """Every report, one after the other."""
    return str(request.param)


@pytest.fixture(scope="session")
def hostile_names() -> tuple[str, ...]:
    """What must be found, as text, in the report of kind ``hostile``."""
    return (*SYMBOLS, STRATEGY.removesuffix(".py"), STRATEGY)


@pytest.fixture(scope="session")
def report(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the file of one of `REPORTS`; the first process that asks for it makes the run."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "reports"
    shared.mkdir(exist_ok=True)

    def find(kind: str) -> Path:
        folder = shared / kind
        failed = folder / "failed.txt"
        with FileLock(f"{folder}.lock"):
            if failed.exists():
                pytest.fail(f"the report '{kind}' could not be made: {failed.read_text(encoding='utf-8')}")
            if not folder.exists():
                folder.mkdir()
                try:
                    _make(kind, folder)
                except BaseException as error:
                    failed.write_text(repr(error), encoding="utf-8")
                    raise
        (path,) = folder.glob("**/report.html")
        return path

    return find


def _make(kind: str, folder: Path) -> None:
    """Make the run of a report, and the report."""
    from qtrade.data.cache import Cache
    from qtrade.data.fetch import fetch
    from qtrade.errors import IntegrityError
    from qtrade.pipeline.backtest import backtest_run
    from qtrade.pipeline.evaluate import evaluate_run
    from qtrade.pipeline.report import report_run
    from qtrade.pipeline.train import train_run
    from qtrade.progress import Silent

    config = _configured(kind, folder)
    cache = Cache(folder / "data_cache")
    fetch(config.data, cache=cache, progress=Silent()).require_all()
    run = train_run(config, runs=folder / "runs", cache=cache, progress=Silent())
    backtest_run(run, progress=Silent())
    if kind != "invalid":
        report_run(run, progress=Silent(), evaluation=evaluate_run(run, progress=Silent()))
        return
    import pandas as pd

    path = run.folder / "forecasts.parquet"
    forecasts = pd.read_parquet(path)
    forecasts.loc[forecasts.index[0], "y_hat_01"] += 0.01
    forecasts.to_parquet(path)
    with pytest.raises(IntegrityError):
        evaluate_run(run, progress=Silent())


def _configured(kind: str, folder: Path) -> Any:
    """Return the configuration of a run, and write the files that it reads."""
    from qtrade.config import load_config

    if kind == "sample":
        return load_config(None, [*_SMALL, "strategies.path_momentum.step=2", "data.start=2014-01-01"])
    if kind == "failing":
        return load_config(None, [*_MADE, "data.synthetic.bars=1000", 'data.symbols=["rw-1"]'])
    if kind == "inconclusive":
        sized = ("data.synthetic.bars=1500", "split.train_size=600")
        return load_config(None, [*_MADE, *sized, 'data.symbols=["flip-1"]'])
    if kind == "empty":
        sized = ("data.synthetic.bars=260", "split.train_size=200")
        return load_config(None, [*_MADE, *sized, 'data.symbols=["rw-1"]', "model=naive", "strategies={}"])
    if kind == "fifty":
        sized = ("data.synthetic.bars=450", "split.train_size=200")
        return load_config(None, [*_MADE, *sized, f"data.symbols={[f'control-{seed}' for seed in range(50)]}"])
    return _hostile(folder)


def _hostile(folder: Path) -> Any:
    """Return a configuration whose symbols, strategy and files are named by an enemy."""
    import pandas as pd

    from qtrade.config import load_config
    from qtrade.data.synthetic import Synthetic, SyntheticConfig

    market = Synthetic(SyntheticConfig(bars=700))
    tables = []
    for seed, symbol in enumerate(SYMBOLS):
        frame = market.fetch(f"control-{seed}", interval="1d", start=None, end=None).frame
        tables.append(frame[["open", "high", "low", "close", "volume"]].assign(symbol=symbol))
    bars, strategy = folder / BARS, folder / STRATEGY
    bars.parent.mkdir(parents=True)
    pd.concat(tables).to_csv(bars, index_label="date")
    shipped = Path(__file__).parents[2] / "strategies" / "forecast_sign.py"
    shutil.copy(shipped, strategy)
    return load_config(
        None,
        [*_LINEAR, "split.step=150", "data.source=file", "strategies={}"],
        data={"symbols": SYMBOLS, "file": {"path": str(bars), "calendar": "24/7"}},
        strategies={str(strategy): {"step": 4}},
    )
