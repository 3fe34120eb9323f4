"""One self-contained HTML file per run: a verdict first, then the evidence for it."""
