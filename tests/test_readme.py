"""What the README promises: its commands exist, its recipe loads, its files are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup as Group
from typer.main import get_command

from caravan.__main__ import app
from caravan.recipe.load import load_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
LANGUAGES = (ROOT / "docs" / "languages.md").read_text(encoding="utf-8")
SERVING = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for text in (README, TOUR, LANGUAGES, SERVING)
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]
QUICK = ("road", "schema", "doctor", "validate")


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_one_that_exists(command: list[str]) -> None:
    if command[0] == "make":
        assert f"\n{command[1]}:" in (ROOT / "Makefile").read_text()
        return
    if command[0] == "curl":
        assert command[1].startswith("http://127.0.0.1:8080/v1/")
        return
    if command[0] == "torchrun":
        command = command[command.index("-m") + 1 :]
    assert command[0] == "caravan"
    verb, words = get_command(app), command[1:]
    while isinstance(verb, Group):
        assert words[0] in verb.commands
        verb, words = verb.commands[words[0]], words[1:]
    flags = {flag for each in verb.params for flag in each.opts}
    assert {word for word in words if word.startswith("-")} <= flags
    for word in words:
        if word.startswith("recipes/"):
            assert load_recipe(ROOT / word, [each for each in command if "=" in each])


@pytest.mark.parametrize("command", [each for each in COMMANDS if each[1] in QUICK], ids=" ".join)
def test_quick_commands_run(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_recipe_in_the_readme_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.align is not None
    assert recipe.align.speech == "openai/whisper-large-v3"


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", LANGUAGES, re.DOTALL))
def test_the_recipes_in_the_docs_load(block: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(block, encoding="utf-8")
    assert load_recipe(tmp_path / "mine.yaml")


@pytest.mark.parametrize("page", ["README.md", "docs/serving.md"])
def test_pictures_and_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists(), target
