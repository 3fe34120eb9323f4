"""Make the gallery of reports: docs/gallery.md, and a picture of the first screen of each report.

Every report is made by the command that stands beside its picture, in a folder that is thrown away; a headless Chromium
then draws what a reader sees first. A report whose verdict is not the one the gallery tells of is an error.

    python benchmarks/gallery.py --chromium /usr/bin/chromium --out docs
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from caveat_pictures import browser_at, packed, photographed

SIZE = (820, 1_000)
"""Window in px: the verdict, its reasons and the key numbers fit into it."""
MOST_BYTES = 120 * 1024
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Entry:
    """A report of the gallery.

    Attributes
    ----------
    name, title
        Of its picture, and of its section.
    headline
        The verdict that the report must come to.
    arguments
        What follows ``qtrade run``.
    told
        What the reader ought to know of it.
    """

    name: str
    title: str
    headline: str
    arguments: str
    told: str

    @property
    def command(self) -> str:
        """What to type."""
        return f"qtrade run {self.arguments}".strip()


SYNTHETIC = "--config benchmarks/gallery.toml"
ENTRIES = (
    Entry(
        "passing",
        "A rule that lasts",
        "PASS",
        f"control-1 {SYNTHETIC}",
        "In this synthetic market the volume foretells the next return a little, for ever, and the model reads the "
        "volume. It is the only PASS here, and no real market is known to be so kind.",
    ),
    Entry(
        "ended",
        "A rule that ends",
        "FAIL",
        f"death-1 {SYNTHETIC}",
        "The same market, until two thirds of its bars have passed; then the rule is gone and nothing foretells "
        "anything. Over the whole test period the forecasts still beat the naive ones, and only the tests of stability "
        "show that what they know is history.",
    ),
    Entry(
        "random",
        "Nothing to know",
        "FAIL",
        f"rw-1 {SYNTHETIC}",
        "A random walk, traded all the same. The forecasts cannot be told from luck, which would leave the question "
        "open; it is the account that fails, since whoever trades must show more than that.",
    ),
    Entry(
        "faint",
        "Too faint to be seen",
        "INCONCLUSIVE",
        f"control-1 {SYNTHETIC} --set data.synthetic.beta=0.01 --set 'strategies={{}}'",
        "The rule of the first market at a twentieth of its strength, which nobody trades. There is something to know, "
        "but these bars cannot show it: INCONCLUSIVE does not mean no.",
    ),
    Entry(
        "sample",
        "The S&P 500",
        "FAIL",
        "",
        "What `qtrade run` makes of the embedded index bars: the Informer in its small size, a new model every 252 "
        "bars, two strategies. It shows what the toolkit measures, and not how a model ought to be chosen.",
    ),
)


def document() -> str:
    """Return docs/gallery.md."""
    sections = [
        f"## {one.title}\n\n"
        f"![The first screen of the report, which begins with {one.headline}](gallery/{one.name}.png)\n\n"
        f"{one.told}\n\n```sh\n{one.command}\n```\n"
        for one in ENTRIES
    ]
    return f"""\
# A gallery of reports

What reports look like when the truth is known, and once when it is not. Each picture is the first screen of one: the
verdict, its strongest reasons, and the key numbers. [Reading the caveat](reading-the-caveat.md) explains what follows
below it. The commands are typed in the folder of the repository; the synthetic markets are described in
[data.md](data.md#synthetic-markets), and what they share is in `benchmarks/gallery.toml`.

Pictures and page are made by

```sh
python benchmarks/gallery.py --chromium /usr/bin/chromium --out docs
```

{chr(10).join(sections)}"""


def report_of(entry: Entry, folder: Path) -> tuple[str, str]:
    """Run the command of an entry in a folder; return the headline, and the report as HTML."""
    program = Path(sys.executable).with_name("qtrade")
    places = ["--runs", str(folder / "runs"), "--cache", str(folder / "data_cache")]
    finished = subprocess.run(
        [str(program), *shlex.split(entry.command)[1:], *places], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        raise RuntimeError(f"{entry.command} ended with {finished.returncode}: {finished.stderr.strip()[-500:]}")
    (page,) = folder.glob("runs/*/report.html")
    told = json.loads(page.with_name("evaluation.json").read_text(encoding="utf-8"))
    return told["verdict"]["headline"], page.read_text(encoding="utf-8")


def main() -> int:
    """Make every report, its picture, and the page; return 1 if a verdict is not the one that is told."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chromium", help="path of the browser that draws; looked for if not given")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of gallery.md and of gallery/")
    parser.add_argument("--report", action="append", choices=[one.name for one in ENTRIES], help="repeatable")
    options = parser.parse_args()
    browser = browser_at(options.chromium)
    if browser is None:
        return 2
    pictures = options.out / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    wrong = 0
    for entry in ENTRIES:
        if options.report and entry.name not in options.report:
            continue
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            headline, page = report_of(entry, Path(folder))
            picture = packed(photographed(page, browser, Path(folder), SIZE), MOST_BYTES)
        target = pictures / f"{entry.name}.png"
        target.write_bytes(picture)
        seconds = time.perf_counter() - started
        print(f"{target}  {headline}  {len(picture) / 1024:.0f} KB  {seconds:.0f} s", flush=True)
        if headline != entry.headline:
            print(f"{entry.name} is told to be {entry.headline}, and is {headline}: correct ENTRIES", file=sys.stderr)
            wrong = 1
    (options.out / "gallery.md").write_text(document(), encoding="utf-8")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
