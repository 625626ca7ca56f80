from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.core.errors import ServeError
from caravan.engine import Completion, EngineRequestError
from caravan.evaluate import answers
from caravan.evaluate.answers import REFUSED, clean, engine_answers, http_answers, request, server, torch_answers
from caravan.media.image import decode_image


class Listener(BaseHTTPRequestHandler):
    bodies: list[dict[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        first = body["messages"][0]["content"][0]["text"]
        status = {"too long": 400, "broken": 500}.get(first, 200)
        message = {"message": {"role": "assistant", "content": f" {first}, yes\n"}}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [message]}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Listener.bodies.clear()
    listening = HTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_what_goes_over_http(url: str, row: Any, wav: bytes, png: bytes) -> None:
    asked = row("1", "red", image=png, audio=wav)
    assert http_answers(url, 9)([asked]) == ["What is this?, yes"]
    (body,) = Listener.bodies
    assert (body["temperature"], body["max_tokens"]) == (0, 9)
    text, sound, picture = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert base64.b64decode(sound["input_audio"]["data"]) == wav
    assert picture["image_url"]["url"] == "data:image/png;base64," + base64.b64encode(png).decode()


def test_a_refused_row_is_an_answer_and_a_broken_server_an_error(url: str, row: Any) -> None:
    from dataclasses import replace

    from caravan.records import Message

    def saying(text: str) -> Any:
        return replace(row("1", "x"), messages=(Message.of("user", text),))

    assert http_answers(url, 9)([saying("too long"), saying("fine")]) == [REFUSED, "fine, yes"]
    with pytest.raises(ServeError, match="500"):
        http_answers(url, 9)([saying("broken")])
    with pytest.raises(ServeError, match="does not answer"):
        http_answers("http://127.0.0.1:9", 9)([saying("fine")])


def test_the_engine_gets_one_placeholder_and_plain_bytes_for_each_medium(
    tokenizer: PreTrainedTokenizerFast, row: Any, wav: bytes, png: bytes
) -> None:
    seen: list[Any] = []

    class Scripted:
        def complete(self, prompt: str, media: list[bytes], max_tokens: int) -> Completion:
            seen.append((prompt, media, max_tokens))
            if len(seen) == 2:
                raise EngineRequestError("too long")
            return Completion(" red ", (1,), "stop", 1, 1)

    scripted: Any = Scripted()
    asked = row("1", "red", image=png, audio=wav)
    assert engine_answers(scripted, tokenizer, 5)([asked, asked]) == ["red", REFUSED]
    prompt, media, most = seen[0]
    assert prompt.count("<|audio_pad|>") == prompt.count("<|image_pad|>") == 1
    assert prompt.endswith("<|end|><|assistant|>")
    assert media[0][:4] == b"RIFF"
    assert decode_image(media[1]).getpixel((0, 0)) == (255, 0, 0)
    assert most == 5


def test_torch_answers_do_not_depend_on_the_batch(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, row: Any
) -> None:
    answer = torch_answers(model, tokenizer, 6)
    rows = [row(str(i), "x") for i in range(3)]
    together = answer(rows)
    assert together == [answer([each])[0] for each in rows]


def test_clean() -> None:
    assert clean(" cut off \ufffd") == "cut off"


def test_a_request_keeps_every_turn(row: Any) -> None:
    from caravan.records import Message

    turns = (Message.of("system", "be brief"), Message.of("user", "a"), Message.of("assistant", "b"))
    body = request(turns, 4)
    assert [(m["role"], m["content"][0]["text"]) for m in body["messages"]] == [
        ("system", "be brief"),
        ("user", "a"),
        ("assistant", "b"),
    ]


def test_a_server_that_does_not_come_up_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no such model')\n")
    program.chmod(0o755)
    monkeypatch.setattr(answers.sys, "executable", str(program))
    with pytest.raises(ServeError, match=r"did not come up(.|\n)*no such model"), server(tmp_path / "m.gguf", None):
        pass


def test_a_server_is_asked_where_it_listens_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys, time\n"
        "ready = sys.argv[sys.argv.index('--ready-file') + 1]\n"
        "assert sys.argv[1:4] == ['-m', 'caravan', 'serve'] and sys.argv[-2:] == ['--mmproj', 'p.gguf']\n"
        "open(ready + '.new', 'w').write(f'http://x/{os.getpid()}')\n"
        "os.rename(ready + '.new', ready)\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(answers.sys, "executable", str(program))
    with server(tmp_path / "m.gguf", Path("p.gguf")) as url:
        process = int(url.rsplit("/", 1)[1])
        assert Path(f"/proc/{process}").exists()
    assert not Path(f"/proc/{process}").exists()
