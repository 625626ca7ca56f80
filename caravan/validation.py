"""`caravan validate`: the faults of a recipe and its data, or of a data set, as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from caravan.core.errors import CaravanError
from caravan.core.log import console
from caravan.core.stage import StageContext
from caravan.recipe.instruct import DataSource
from caravan.recipe.load import load_recipe, load_section
from caravan.records import LANGUAGES
from caravan.road import check, stages_of


def validate_recipe(recipe: Path, overrides: Sequence[str], out: Console, limit: int) -> bool:
    """Look at a recipe and a sample of every data set in it; whether nothing is wrong."""
    loaded = load_recipe(recipe, overrides)
    faults = check(loaded)
    _show(faults[:limit])
    if len(faults) > limit:
        console.print(f"and {len(faults) - limit:,} faults more; --limit shows them", highlight=False)
    if not faults:
        out.print(f"{recipe}: valid; stages: {', '.join(stage.name for stage in stages_of(loaded))}", highlight=False)
    return not faults


def validate_data(path: Path, settings: Sequence[str], out: Console, limit: int) -> bool:
    """Look at every row of a data set, with settings as a source of a recipe has them; whether nothing is wrong."""
    from caravan.instruct.validate import examine

    source = load_section(DataSource, [f"path={str(path)!r}", *settings])
    found = examine(source, StageContext(Path(), {}, Path(), 0, LANGUAGES, "validate"), limit=limit)
    _show(found.faults)
    total = sum(found.problems.values())
    if total > len(found.faults):
        console.print(f"and {total - len(found.faults):,} faults more; --limit shows them", highlight=False)
    for problem, count in found.problems.most_common():
        console.print(f"[red]{count:,}[/] x {escape(problem)}", highlight=False)
    kinds = ", ".join(f"{kind} ({count} files)" if count > 1 else kind for kind, count in found.files.items())
    made = ", ".join(f"{count:,} {task} {language}" for (task, language), count in sorted(found.dialogues.items()))
    passed = f", {found.passed:,} in other languages or too long" if found.passed else ""
    rows = f"{found.rows:,} rows, {found.broken:,} broken{passed}"
    out.print(f"{path}: {kinds or 'no format'}; {rows}; {made or 'no dialogue'}", highlight=False, soft_wrap=True)
    return not total


def _show(faults: Sequence[CaravanError]) -> None:
    for fault in faults:
        console.print(f"[red]✗[/] {escape(str(fault))}\n", highlight=False, soft_wrap=True)
