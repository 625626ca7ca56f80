"""One look for every report, on light and dark and at a phone's width; a page loads nothing from elsewhere."""

from __future__ import annotations

import jinja2

STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --paper: #fcfcfa; --card: #f1f1ed; --line: #d5d5cf;
  --good: #1f7a4d; --bad: #b3401f; --quiet: #6a7075; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e7; --paper: #16191c; --card: #20252a; --line: #3a4147;
  --good: #59c08a; --bad: #f08a64; --quiet: #9aa2a8; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; } th, td { text-align: start; padding: .25rem 1.2rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
td.number, th.number { text-align: end; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .quiet { color: var(--quiet); font-size: .85rem; }
.scroll { overflow-x: auto; } svg { width: 100%; height: auto; }
.turns { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
.turn { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.turn p { margin: .3rem 0; overflow-wrap: anywhere; }
.matrix td { text-align: center; padding: .15rem .5rem; min-width: 1.6rem; } .hit { font-weight: 700; }
"""


def framed(title: str, body: str, style: str = "") -> str:
    """The template of a whole page around that of its body."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}{style}</style>
</head>
<body>
{body}</body>
</html>
"""


def environment(*, html: bool = True) -> jinja2.Environment:
    """How templates of reports are read; without `html` nothing is escaped, as Markdown wants it."""
    made = jinja2.Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True)
    made.filters["percent"] = percent
    return made


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
