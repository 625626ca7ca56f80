"""The house: each layer imports only from the ones below it, and torch stays where it belongs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "caravan"
LAYERS = (
    {"core"},
    {"recipe", "records"},
    {"text", "media", "samples", "engine", "pages"},
    {"models"},
    {"curate", "tokenize", "instruct", "train", "evaluate", "export", "convert", "serve", "plan"},
    {"__main__", "road", "report", "inspection", "doctor", "validation"},
)
# Within these layers a part may import its neighbours.
OPEN_LAYERS = (1, 5)
TORCH_ALLOWED = {"models", "train", "evaluate", "export", "convert", "serve", "media"}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path) -> list[str]:
    """Dotted names of everything a module imports, late imports too."""
    names = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(module: Path) -> None:
    part = part_of(module)
    if part == "__init__":
        return
    for name in imported(module):
        pieces = name.split(".")
        if pieces[0] == "torch":
            assert part in TORCH_ALLOWED, f"{part} imports torch"
        if pieces[0] != "caravan" or pieces[1] in (part, "__version__"):
            continue
        above = LEVEL[pieces[1]] > LEVEL[part]
        beside = LEVEL[pieces[1]] == LEVEL[part] and LEVEL[part] not in OPEN_LAYERS
        assert not above, f"{part} imports {name} from a higher layer"
        assert not beside, f"{part} imports its neighbour {name}"


def test_modules_are_short_enough_to_read() -> None:
    long = {str(path): n for path in MODULES if (n := len(path.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize("arguments", [["--help"], ["road"], ["schema"], ["validate", "recipes/quickstart.yaml"]])
def test_torch_is_not_imported_before_it_is_needed(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['caravan', *sys.argv[1:]]\n"
        "from caravan.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as leave: assert not leave.code, leave.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )
    assert done.returncode == 0, done.stderr
