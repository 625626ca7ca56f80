"""llama.cpp answers rendered prompts: exactly as asked, piece by piece, and with errors that say what to do."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.core.errors import PlaceholderError, ServeError
from caravan.engine import (
    Engine,
    EngineRequestError,
    EventReader,
    completion_request,
    engine_error,
    read_completion,
)
from caravan.engine.protocol import PLACEHOLDER
from caravan.text.tokens import AUDIO_PAD, IMAGE_PAD, SPECIAL_TOKENS

PROMPT = "<|user|>the end 12<|end|><|assistant|>"


def test_special_tokens_are_parsed_and_nothing_is_added(engine: Engine, ids: dict[str, int]) -> None:
    start = [ids["<|user|>"], *engine.tokenize("the end 12"), ids["<|end|>"], ids["<|assistant|>"]]
    assert engine.tokenize(PROMPT) == start
    assert engine.complete(PROMPT, max_tokens=1).prompt_tokens == len(start)


def test_greedy_answers_do_not_depend_on_what_was_asked_before(engine: Engine) -> None:
    first = engine.complete(PROMPT, max_tokens=24)
    engine.complete("<|user|>the line<|end|>", max_tokens=5)
    assert engine.complete(PROMPT, max_tokens=24) == first
    assert first.completion_tokens == len(first.tokens) == 24
    assert first.finish_reason == "length"


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_a_stream_join_to_the_whole_answer(engine: Engine, seed: int) -> None:
    # Hot sampling over bytes gives many characters that several tokens make, and bytes that make none.
    sampling = {"max_tokens": 60, "temperature": 1.5, "seed": seed}
    whole = engine.complete(PROMPT, **sampling)
    pieces = list(engine.stream(PROMPT, **sampling))
    assert "".join(pieces) == whole.text
    assert len(pieces) > 1
    assert engine.complete(PROMPT, **sampling) == whole


def test_a_stop_string_ends_the_answer(engine: Engine) -> None:
    whole = engine.complete(PROMPT, max_tokens=24)
    stop = whole.text[4:6]
    cut = engine.complete(PROMPT, max_tokens=24, stop=(stop, ""))
    assert cut.text == whole.text.split(stop)[0]
    assert cut.finish_reason == "stop"


def test_logprobs_are_a_distribution_and_its_mode_is_the_greedy_token(engine: Engine, ids: dict[str, int]) -> None:
    for prompt in (PROMPT, "the", "<|user|>终"):
        found = engine.next_logprobs(prompt, top=len(ids))
        assert len(found) == len(ids)
        assert sum(map(math.exp, found.values())) == pytest.approx(1, abs=1e-3)
        assert max(found, key=found.__getitem__) == engine.complete(prompt, max_tokens=1).tokens[0]


def test_every_slot_has_the_whole_context_and_slots_answer_alike(engine: Engine) -> None:
    assert engine.context >= 96
    alone = engine.complete(PROMPT, max_tokens=60)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: engine.complete(PROMPT, max_tokens=60), range(2)))
    assert [len(answer.tokens) for answer in both] == [60, 60]
    assert both[0].text[:10] == both[1].text[:10] == alone.text[:10]


def test_requests_of_one_prefix_share_steps_and_what_is_known_of_it(engine: Engine) -> None:
    prefix = PROMPT * 4
    headers = {"Authorization": f"Bearer {engine.key}"}
    with httpx.Client(base_url=engine.address, headers=headers, timeout=240, trust_env=False) as client:

        def ask(tail: int) -> int:
            body = completion_request(f"{prefix}{tail}", [], engine.marker, max_tokens=40, cache_prompt=True)
            reply = client.post("/completion", json=body | {"ignore_eos": True}).raise_for_status()
            return int(reply.json()["timings"]["cache_n"])

        def busy() -> float:
            told = client.get("/metrics").raise_for_status().text
            return float(told.partition("\nllamacpp:n_busy_slots_per_decode ")[2].split()[0])

        with ThreadPoolExecutor(2) as pool:
            cached = list(pool.map(ask, range(16)))
        # Each of the two slots reads the prefix once.
        assert sum(count >= len(engine.tokenize(prefix)) - 1 for count in cached) >= 14
        assert busy() > 1  # one at a time would be 1 at each step


def test_context_is_at_most_what_the_model_was_trained_for(model: Path) -> None:
    with Engine(model, context=5000, threads=1) as engine:
        assert engine.context == 256


def test_a_prompt_that_does_not_fit_names_both_lengths(engine: Engine) -> None:
    with pytest.raises(EngineRequestError, match=rf"at most {engine.context} tokens[\s\S]*got: 1000 tokens"):
        engine.complete("<|pad|>" * 1000, max_tokens=1)
    with pytest.raises(EngineRequestError, match="does not fit"):
        list(engine.stream("<|pad|>" * 1000, max_tokens=1))
    assert engine.complete(PROMPT, max_tokens=1).tokens


def test_media_need_an_engine_with_that_sense(engine: Engine) -> None:
    assert engine.senses == frozenset()
    with pytest.raises(EngineRequestError, match="does not support multimodal"):
        engine.complete("<|audio_pad|>?", [b"RIFF"], max_tokens=1)


def test_the_server_wants_its_key(engine: Engine) -> None:
    body = completion_request(PROMPT, [], engine.marker, max_tokens=1)
    with httpx.Client(base_url=engine.address, trust_env=False) as client:
        assert client.post("/completion", json=body).status_code == 401
        reply = client.post("/completion", json=body, headers={"Authorization": f"Bearer {engine.key}"})
        assert read_completion(reply.json()).tokens == engine.complete(PROMPT, max_tokens=1).tokens


def test_placeholders_are_the_pad_tokens_of_the_chat_template() -> None:
    assert PLACEHOLDER.findall("".join(SPECIAL_TOKENS)) == [AUDIO_PAD, IMAGE_PAD]


def test_placeholders_become_markers_in_order() -> None:
    body = completion_request("a<|image_pad|><|audio_pad|>c", [b"1", b"2"], "<M>", max_tokens=3)
    assert body["prompt"] == {"prompt_string": "a<M><M>c", "multimodal_data": ["MQ==", "Mg=="]}
    assert completion_request("a", [], "<M>", max_tokens=3)["prompt"] == "a"


@pytest.mark.parametrize(("prompt", "media"), [("a", [b"1"]), ("<|audio_pad|>", []), ("<|image_pad|>" * 2, [b"1"])])
def test_media_without_placeholders_or_the_other_way_round(prompt: str, media: list[bytes]) -> None:
    with pytest.raises(PlaceholderError, match=f"got: {len(media)} media"):
        completion_request(prompt, media, "<M>", max_tokens=1)


def test_a_prompt_that_ends_with_a_medium_would_end_the_engine() -> None:
    with pytest.raises(PlaceholderError, match="ends with a medium"):
        completion_request("<|user|><|audio_pad|>", [b"1"], "<M>", max_tokens=1)


def test_a_fixed_seed_is_never_the_one_that_means_random() -> None:
    seeds = [completion_request("a", [], "", max_tokens=1, seed=seed)["seed"] for seed in (None, 0, 2**32 - 1, -1)]
    assert seeds[0] == 2**32 - 1
    assert all(0 <= seed < 2**32 - 1 for seed in seeds[1:])


@settings(derandomize=True, deadline=None)
@given(st.lists(st.text(), max_size=5), st.integers(1, 9))
def test_events_are_read_from_chunks_that_end_anywhere(texts: list[str], size: int) -> None:
    events = [{"content": text + "\u2028é\x85"} for text in texts]
    lines = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events) + "data: [DONE]\n\n"
    data = lines.encode("utf-8", "surrogatepass")
    reader = EventReader()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert [event for chunk in chunks for event in reader.feed(chunk)] == events


def test_half_a_character_at_the_end_is_left_out_and_elsewhere_kept() -> None:
    reader = EventReader()
    said = [
        event["content"]
        for text in ("a\ufffd", "b", "c\ufffd\ufffd")
        for event in reader.feed(b'data: {"content": "' + text.encode() + b'"}\n')
    ]
    assert "".join(said) == "a\ufffdbc"


def test_an_error_in_a_stream_is_raised() -> None:
    with pytest.raises(ServeError, match="500: it broke"):
        EventReader().feed(b'data: {"error": {"code": 500, "message": "it broke"}}\n\n')
    with pytest.raises(ServeError, match="it broke"):
        EventReader().feed(b'error: {"code": 500, "message": "it broke"}\n\n')


def test_replies_that_are_no_json_are_errors_too() -> None:
    assert "502: <html>" in str(engine_error(502, b"<html>"))


def test_files_that_are_no_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text, broken = tmp_path / "a.txt", tmp_path / "b.gguf"
    text.write_text("hello")
    broken.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ServeError, match="No such file"):
        Engine(tmp_path / "none.gguf")
    with pytest.raises(ServeError, match="not a GGUF file"):
        Engine(text)
    with pytest.raises(ServeError, match="cannot load the model"):
        Engine(broken)
    # llama.cpp writes its log from a thread of its own, a moment after the call has returned.
    said = ""
    for _ in range(100):
        said += capfd.readouterr().err
        if "bad GGUF version" in said:
            break
        time.sleep(0.1)
    assert "bad GGUF version" in said


def test_a_port_in_use(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port} cannot be used"):
            Engine(model, port=port)


STARTER = """
import subprocess, sys
command = [sys.executable, "-m", "caravan.engine", sys.argv[1], "--threads", "1"]
child = subprocess.Popen(command, stdout=subprocess.PIPE)
print(child.stdout.readline().decode().strip(), flush=True)
print(child.pid, flush=True)
child.wait()
"""


def test_the_process_says_when_it_is_ready_and_ends_with_its_parent(model: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", STARTER, str(model)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    ready, child = json.loads(parent.stdout.readline()), int(parent.stdout.readline())
    body = completion_request(PROMPT, [], ready["marker"], max_tokens=2)
    headers = {"Authorization": f"Bearer {ready['key']}"}
    reply = httpx.post(f"{ready['address']}/completion", json=body, headers=headers, trust_env=False)
    assert len(read_completion(reply.json()).tokens) == 2
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert _ends_within(child, seconds=60)


def _ends_within(process: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_the_process_says_why_it_cannot_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "caravan.engine", str(tmp_path / "none.gguf")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "the model file cannot be read" in ended.stderr
    assert "Traceback" not in ended.stderr
