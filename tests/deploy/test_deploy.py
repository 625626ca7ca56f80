"""What stands under deploy/: read as its programs read it; commands and paths in it exist, and settings are ours."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from caravan.recipe.load import load_section
from caravan.recipe.serve import ServeConfig
from caravan.serve.stage import KEY_VARIABLE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(one[0], one[1]) for line in text.splitlines() if (one := line.split(None, 1))]


def settings(words: list[str]) -> ServeConfig:
    """What `caravan serve` makes of its words, the model first."""
    options = [pair for pair in pairwise(words) if pair[0] in ("--host", "--port")]
    pairs, known = [f"{name[2:]}={value}" for name, value in options], {*chain.from_iterable(options)}
    rest = [word for word in words[1:] if word not in known]
    assert all("=" in word for word in rest), rest
    return load_section(ServeConfig, [*pairs, *rest])


def test_the_image_runs_the_server_as_nobody_and_watches_it() -> None:
    found = instructions()
    last = dict(found)
    assert last["USER"] == "caravan"
    assert any(name == "RUN" and "useradd" in words and " caravan" in words for name, words in found)
    assert [name for name, _ in found].index("USER") > [name for name, _ in found].index("COPY")
    assert json.loads(last["ENTRYPOINT"]) == ["caravan", "serve"]
    config = settings(json.loads(last["CMD"]))
    assert (config.host, str(config.port)) == ("0.0.0.0", last["EXPOSE"])
    check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    assert check[:2] == ["python", "-c"]
    assert f"127.0.0.1:{config.port}/health" in check[2]
    compile(check[2], "HEALTHCHECK", "exec")


def test_the_image_is_built_of_what_is_here() -> None:
    shown = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    for name, words in instructions():
        if name == "FROM":
            assert re.fullmatch(r"python:3\.1\d-slim-\w+( AS build)?", words), "a version, no `latest`"
        if name == "COPY" and not words.startswith("--from"):
            *sources, _ = words.split()
            assert all((ROOT / source).exists() for source in sources)
            assert {*sources} <= shown
        if name == "RUN" and "apt-get install" in words:
            assert "--no-install-recommends" in words
            assert "rm -rf /var/lib/apt/lists" in words
    extras = re.findall(r"/src\[([\w,]+)\]", (DEPLOY / "Dockerfile").read_text())[0].split(",")
    project = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras)
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


@pytest.fixture
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_compose_shuts_what_need_not_be_open(compose: dict[str, Any]) -> None:
    for name in ("caravan", "front"):
        service = compose["services"][name]
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert KEY_VARIABLE in service["environment"]
        build = service["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
        assert all(volume.endswith(":ro") for volume in service.get("volumes", ()))
    assert all(":" in one["image"] and "latest" not in one["image"] for one in [compose["services"]["vllm"]])


def test_compose_puts_the_front_before_vllm(compose: dict[str, Any]) -> None:
    config = settings(compose["services"]["front"]["command"])
    assert config.upstream == "http://vllm:8000/v1"
    assert {"front", "vllm"} == {name for name, one in compose["services"].items() if one.get("profiles") == ["gpu"]}
    assert config.parallel > ServeConfig().parallel


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "caravan.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_the_server_on_loopback() -> None:
    (line,) = unit()["ExecStart"]
    program, command, *words = shlex.split(line)
    assert (Path(program).name, command) == ("caravan", "serve")
    assert (Path(sys.executable).parent / "caravan").exists()
    assert settings(words).host == "127.0.0.1"
    assert unit()["DynamicUser"] == ["yes"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "caravan"
    text = (DEPLOY / "caravan.service").read_text().replace("/opt/caravan/bin/caravan", str(program))
    (tmp_path / "caravan.service").write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / "caravan.service")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "caravan.service" not in said.stderr, said.stderr
