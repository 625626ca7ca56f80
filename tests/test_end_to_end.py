"""The whole road, for real and small: run, killed and resumed, inspected, served and asked."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from caravan.core.artifact import Artifact
from caravan.road import ROAD

ROOT = Path(__file__).parents[1]
TRAINED = ("pretrain", "encoders", "align", "sft")
pytestmark = pytest.mark.timeout(900)


def start(output: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "caravan", "run", str(ROOT / "tests" / "tiny.yaml"), f"output={output}", *words]
    # A session of its own: a kill takes the workers of a stage as well, as the end of a container would.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=ROOT
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    output = finish(start(folder))
    assert "the run" in output
    assert "measured on held-out items" in output
    return folder


def losses(run: Path, stage: str) -> list[tuple[int, float]]:
    """Step and loss of each line of a training stage's journals."""
    return [
        (line["step"], line["loss"])
        for journal in sorted((run / stage).rglob("train.jsonl"))
        for line in map(json.loads, journal.read_text().splitlines())
    ]


def test_every_stage_leaves_a_finished_artifact_of_its_kind(whole: Path) -> None:
    for stage in ROAD:
        artifact = Artifact.open(whole / stage.name, stage.writes)
        assert artifact.manifest.files
        assert (artifact.path / "recipe.yaml").is_file()
    assert not list(whole.glob("*.partial"))


def test_a_second_run_finds_everything_up_to_date(whole: Path) -> None:
    words = " ".join(finish(start(whole)).split())  # a long path wraps the line
    assert words.count("(up to date)") == len(ROAD)


def test_a_run_killed_again_and_again_ends_as_the_uninterrupted_one(whole: Path, tmp_path: Path) -> None:
    run, rng, kills = tmp_path / "run", random.Random(5), 0
    while True:
        process = start(run)
        assert process.stdout is not None
        try:
            # Each attempt may last longer than the one before, so that any machine gets through.
            process.wait(timeout=rng.uniform(3, 6) + kills)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            assert kills < 60, "no progress between kills"
            continue
        output = process.stdout.read()
        process.stdout.close()
        assert process.returncode == 0, output
        break
    assert kills >= 2
    for stage in ("curate", "tokenize", "instruct"):
        assert Artifact.open(run / stage).manifest.counts == Artifact.open(whole / stage).manifest.counts
    for stage in TRAINED:
        expected, got = losses(whole, stage), losses(run, stage)
        assert [step for step, _ in got] == [step for step, _ in expected], f"{stage}: steps repeated or lost"
        assert [loss for _, loss in got] == pytest.approx([loss for _, loss in expected], abs=1e-4)


def test_inspect_tells_what_each_artifact_holds(whole: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "caravan", "inspect", str(whole)], capture_output=True, text=True, check=True
    )
    for stage in ROAD:
        assert f"{stage.writes} by stage {stage.name}" in done.stdout


def test_the_served_model_and_the_terminal_answer(whole: Path, tmp_path: Path) -> None:
    import httpx

    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "caravan", "serve", str(whole), "--port", "0", "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                if ready.exists():
                    break
                time.sleep(0.1)
            url = ready.read_text().strip()
            model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
            body: dict[str, Any] = {"model": model, "max_tokens": 4, "temperature": 0}
            body["messages"] = [{"role": "user", "content": "What comes after Monday?"}]
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
            assert answer.status_code == 200
            served = answer.json()["choices"][0]["message"]["content"]
        finally:
            server.send_signal(signal.SIGTERM)
    assert isinstance(served, str)
    chat = [sys.executable, "-m", "caravan", "chat", str(whole), "What comes after Monday?"]
    done = subprocess.run(chat, capture_output=True, text=True, check=True, timeout=120)
    assert served.strip() in done.stdout
