"""Draw the pictures of docs/reading-the-caveat.md: pieces of reports on markets whose truth is known.

The ridge model of `caveat_power` walks through one market of each kind, all made of the same random numbers, with a
new model every 1,000 bars. Each market gets a report as `qtrade run` writes it, and a headless Chromium takes pictures
of pieces of these reports, side by side. What the gates say of each market is printed.

    python benchmarks/caveat_pictures.py --chromium /usr/bin/chromium --out docs/caveat
"""

from __future__ import annotations

import argparse
import html
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from caveat_power import configured
from PIL import Image, ImageChops

from qtrade.config import RunConfig
from qtrade.data.cache import Cache
from qtrade.data.fetch import fetch
from qtrade.evaluation.result import Evaluation
from qtrade.features.build import FeatureConfig
from qtrade.pipeline.backtest import backtest_run
from qtrade.pipeline.evaluate import evaluate_run
from qtrade.pipeline.report import report_run
from qtrade.pipeline.train import train_run
from qtrade.progress import Silent

SEED = 1
STEP_BARS = 1_000
"""Bars between two trainings, so that the transfer matrix stays small enough to be read."""
WIDTH, HEIGHT = 1_180, 2_400
COLOURS = (256, 128, 64, 32, 16)
MOST_BYTES = 60 * 1024
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--force-color-profile=srgb", "--blink-settings=preferredColorScheme=1"),
)
# The report's own style comes first; here only what puts pieces side by side.
_STYLE = """
body { background: var(--card); width: max-content; font-size: 15px; }
.row { display: grid; gap: 1.2rem 2.2rem; padding: 14px; }
.row > section { min-width: 0; }
.row h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
.row h2 span { color: var(--muted); font-weight: 400; }
.scroll, .tall { overflow: visible; max-height: none; }
.few .wide { display: none; } .few .narrow { display: block; }
table.heat { font-size: .8rem; } table.heat td { min-width: 3.1rem; padding: .25rem .2rem; }
table.heat thead th { white-space: nowrap; font-size: .75rem; padding: .4rem .2rem; }
.matrix table.heat { width: auto; } .matrix tbody th { white-space: nowrap; }
.regimes table.heat thead th { white-space: normal; max-width: 5rem; }
th:first-child { position: static; }
.verdict { max-width: 1120px; } .verdict .line, .verdict li { max-width: none; }
.cards { gap: .9rem; } .cards h2 { margin-bottom: .3rem; } .cards .verdict { padding: .7rem 1.1rem; max-width: 900px; }
.cards .verdict .line { font-size: 1rem; font-weight: 400; }
"""


@dataclass(frozen=True)
class Piece:
    """A market, what to say of it, and where in its report the piece is found.

    After the market may stand ``full``, to fit the models of the waterfall, and ``prices``, to read the default set of
    features, which are made of prices, besides the two of `signal_features`.
    """

    market: str
    title: str
    cut: Callable[[str], str]


@dataclass(frozen=True)
class Picture:
    """Pieces side by side, so many in a row."""

    name: str
    pieces: tuple[Piece, ...]
    columns: int = 2
    kind: str = "few"


def made(market: str, *, features: str = "none", full: bool = False) -> tuple[Evaluation, str]:
    """Train, trade, evaluate and report one market in a folder that is thrown away; return the report as HTML."""
    base = configured(f"{market}-{SEED}")
    config: RunConfig = base.model_copy(
        update={
            "split": base.split.model_copy(update={"step": STEP_BARS}),
            "features": FeatureConfig.model_validate({**base.features.model_dump(), "set": features}),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder) / "data_cache")
        fetch(config.data, cache=cache, progress=Silent()).require_all()
        run = train_run(config, runs=Path(folder) / "runs", cache=cache, progress=Silent())
        backtest_run(run, progress=Silent())
        found = evaluate_run(run, progress=Silent(), full=full)
        page = report_run(run, progress=Silent(), evaluation=found)
        return found, page.read_text(encoding="utf-8")


def figure(section: str, place: int = 0) -> Callable[[str], str]:
    """Cut a figure with its caption out of a section of a report."""
    return lambda page: _found(r"<figure>.*?</figure>", section_of(page, section), section)[place]


def heat_map(section: str) -> Callable[[str], str]:
    """Cut the first heat map out of a section of a report."""
    return lambda page: _found(r'<table class="heat".*?</table>', section_of(page, section), section)[0]


def verdict_card(page: str) -> str:
    """Cut headline and first sentence out of a report."""
    card = _found(r'<section class="verdict.*?</section>', page, "the verdict")[0]
    return re.sub(r"<(details|ul)>.*?</\1>", "", card, flags=re.DOTALL)


def section_of(page: str, name: str) -> str:
    """Return a section of a report, from its heading to the next."""
    _, opening, rest = page.partition(f'<h2 id="{name}">')
    if not opening:
        raise LookupError(f"the report has no section '{name}'")
    return rest.partition("<h2")[0]


def _found(pattern: str, text: str, where: str) -> list[str]:
    pieces = re.findall(pattern, text, flags=re.DOTALL)
    if not pieces:
        raise LookupError(f"the report has nothing to show in {where}")
    return pieces


PICTURES = (
    Picture(
        "verdicts",
        (
            Piece("control", "one rule for ever", verdict_card),
            Piece("rw", "a random walk", verdict_card),
            Piece("flip", "the rule turns round at bar 8,000", verdict_card),
            Piece("leak", "a feature that contains tomorrow's return", verdict_card),
        ),
        columns=1,
        kind="cards",
    ),
    Picture("folds", (Piece("control", "nine folds", figure("protocol")),), columns=1, kind="many"),
    Picture(
        "optimism",
        (
            Piece("control full", "one rule for ever, two features", figure("optimism")),
            Piece("rw full prices", "a random walk, features of past prices", figure("optimism")),
        ),
    ),
    Picture(
        "skill",
        (
            Piece("control", "one rule for ever", figure("skill", 0)),
            Piece("rw", "a random walk", figure("skill", 0)),
            Piece("control", "", figure("skill", 1)),
            Piece("rw", "", figure("skill", 1)),
        ),
    ),
    Picture(
        "transfer",
        (
            Piece("control", "one rule for ever", heat_map("transfer")),
            Piece("flip", "the rule turns round at bar 8,000, in November 2021", heat_map("transfer")),
        ),
        columns=1,
        kind="matrix",
    ),
    Picture(
        "staleness",
        (
            Piece("control", "one rule for ever", figure("lasting", 0)),
            Piece("flip", "the rule turns round", figure("lasting", 0)),
        ),
    ),
    Picture(
        "breaks",
        (
            Piece("control", "one rule for ever", figure("lasting", 1)),
            Piece("flip", "the rule turns round", figure("lasting", 1)),
        ),
    ),
    Picture(
        "switching",
        (
            Piece("markov", "two rules that take turns", figure("lasting", 0)),
            Piece("markov", "the same market", figure("lasting", 1)),
        ),
    ),
    Picture(
        "regimes",
        (
            Piece("control", "one rule for ever", heat_map("regimes")),
            Piece("markov", "two rules that take turns", heat_map("regimes")),
        ),
        kind="regimes",
    ),
    Picture(
        "intervals",
        (
            Piece("control", "one rule for ever", figure("intervals")),
            Piece("vol", "the noise doubles at bar 8,000", figure("intervals")),
        ),
    ),
    Picture(
        "trading",
        (
            Piece("control", "one rule for ever", figure("equity")),
            Piece("rw", "a random walk", figure("equity")),
        ),
    ),
)


def composed(picture: Picture, pages: Mapping[str, str]) -> str:
    """Put the pieces of a picture on one page, in the style of the reports."""
    parts = []
    for piece in picture.pieces:
        name = html.escape(piece.market.partition(" ")[0])
        title = f"<h2>{name}<span>: {html.escape(piece.title)}</span></h2>" if piece.title else ""
        parts.append(f"<section>{title}{piece.cut(pages[piece.market])}</section>")
    style = _found(r"<style>(.*?)</style>", pages[picture.pieces[0].market], "its style")[0]
    wide = f"grid-template-columns: repeat({picture.columns}, {(WIDTH - 60) // picture.columns}px)"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><style>{style}{_STYLE}</style>'
        f'<body><div class="row {picture.kind}" style="{wide}">{"".join(parts)}</div></body></html>'
    )


def photographed(page: str, browser: str, folder: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Let the browser draw a page in a window of so many pixels, and cut off what is empty."""
    source, target = folder / "page.html", folder / "page.png"
    source.write_text(page, encoding="utf-8")
    target.unlink(missing_ok=True)
    command = [
        browser,
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={size[0]},{size[1]}",
        f"--screenshot={target}",
        source.as_uri(),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if not target.exists():
        raise RuntimeError(f"{browser} took no picture: {finished.stderr.strip()[-500:]}")
    with Image.open(target) as opened:
        image = opened.convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((image.width - 1, image.height - 1)))
    box = ImageChops.difference(image, empty).getbbox()
    assert box is not None, "there is something on the page"
    edge = 14
    bounds = (max(0, box[0] - edge), max(0, box[1] - edge), min(size[0], box[2] + edge), min(size[1], box[3] + edge))
    return image.crop(bounds)


def packed(image: Image.Image, most_bytes: int = MOST_BYTES) -> bytes:
    """Write as PNG with as many colours as fit into so many bytes."""
    for colours in COLOURS:
        buffer = io.BytesIO()
        image.quantize(colours).save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= most_bytes:
            return buffer.getvalue()
    raise RuntimeError(f"a picture of {image.width} x {image.height} does not fit into {most_bytes} bytes")


def browser_at(asked: str | None) -> str | None:
    """Find the browser that draws: the one asked for, or one with a usual name. Says so if there is none."""
    browser = shutil.which(asked) if asked else next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        named = f"there is no program '{asked}'" if asked else "no Chromium was found"
        print(f"{named}; install one (apt-get install chromium) or give its path with --chromium", file=sys.stderr)
    return browser


def main() -> int:
    """Make the reports, draw the pictures, and print what the gates say of each market."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chromium", help="path of the browser that draws; looked for if not given")
    parser.add_argument("--out", type=Path, default=Path("docs/caveat"))
    parser.add_argument("--picture", action="append", choices=[one.name for one in PICTURES], help="repeatable")
    options = parser.parse_args()
    browser = browser_at(options.chromium)
    if browser is None:
        return 2
    started = time.perf_counter()
    wanted = [one for one in PICTURES if options.picture is None or one.name in options.picture]
    pages = {}
    for key in dict.fromkeys(piece.market for one in wanted for piece in one.pieces):
        market, *asked = key.split()
        found, pages[key] = made(market, features="default" if "prices" in asked else "none", full="full" in asked)
        grades = " ".join(f"{gate.code} {gate.grade}" for gate in found.gates)
        print(f"{key:14} {found.verdict.headline:13} {grades}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for one in wanted:
            image = photographed(composed(one, pages), browser, Path(folder))
            target = options.out / f"{one.name}.png"
            target.write_bytes(packed(image))
            print(f"{target}  {image.width} x {image.height}  {target.stat().st_size / 1024:.0f} KB", flush=True)
    print(f"{time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
