from __future__ import annotations

from typing import Any

import pytest

from caravan.core.errors import DataError, PlaceholderError
from caravan.instruct import chat
from caravan.recipe.instruct import ChatSource
from caravan.records import AudioPart, ImagePart, TextPart


def read(world: Any, rows: list[Any], name: str = "chat.jsonl.gz", **keys: Any) -> list[Any]:
    (world.parquet if name.endswith("parquet") else world.lines)(name, rows)
    source = ChatSource.model_validate({"chat": name, "test_share": 0.0, **keys})
    return list(chat.read(source, world.context(), "00-chat"))


def turns(*texts: str, lang: str = "en", **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"lang": lang, "messages": messages, **more}


def test_both_layouts_give_the_same(world: Any) -> None:
    other = {
        "lang": "en",
        "conversations": [{"from": "human", "value": "hi\u2028there"}, {"from": "gpt", "value": "ho"}],
    }
    ours = read(world, [turns("hi\u2028there", "ho")])[0].dialogue
    theirs = read(world, [other], messages="conversations")[0].dialogue
    assert ours.messages == theirs.messages
    assert [(m.role, m.text) for m in ours.messages] == [("user", "hi\u2028there"), ("assistant", "ho")]
    assert (ours.task, ours.language) == ("chat", "en")


def test_caps_and_limits(world: Any) -> None:
    rows = [turns("a" * 30, "b"), turns("a", "b", "c", "d"), turns("x", "y", lang="fr")]
    rows += [turns(f"q{i}", "a", lang=language) for i in range(4) for language in ("en", "de")]
    items = read(world, rows, max_characters=30, max_messages=2, limit=3)
    assert [item.dialogue.messages[0].text for item in items if item.dialogue.language == "en"] == ["q0", "q1", "q2"]
    assert {item.dialogue.language for item in items} == {"en", "de"}


@pytest.mark.parametrize("name", ["chat.parquet", "chat.jsonl"])
def test_markers_become_parts_in_order(world: Any, name: str) -> None:
    (world.data / "clip.wav").write_bytes(world.wav(0.2))
    (world.data / "red.png").write_bytes(world.png(200))
    row = turns("<image>\nWhat is this, and what <audio> is said?", "red", images=["red.png"], audios=["clip.wav"])
    dialogue = read(world, [row], name)[0].dialogue
    kinds = [type(part) for part in dialogue.messages[0].content]
    assert kinds == [ImagePart, TextPart, AudioPart, TextPart]
    assert dialogue.messages[0].text == "What is this, and what  is said?"
    assert dialogue.images[0].read() == world.png(200)
    assert dialogue.task == "both"


@pytest.mark.parametrize(
    ("row", "kind", "problem"),
    [
        (turns("<image>what?", "red"), PlaceholderError, "placeholder for image with no media"),
        (turns("what?", "red", images=["red.png"]), PlaceholderError, "image with no placeholder"),
        (turns("<image>what?", "red", images=["gone.png"]), DataError, "cannot be read"),
        (turns("<|end|>", "red"), PlaceholderError, "special token <|end|>"),
        (turns("question"), DataError, "do not alternate"),
        ({"lang": "en", "messages": [{"role": "judge", "content": "x"}]}, DataError, "not a message"),
        ({"lang": "en", "messages": []}, DataError, "no messages"),
        ({"messages": []}, DataError, "no text"),
        (b'{"lang": "en", ', DataError, "not JSON"),
        (b'"\xff\xfe"', DataError, "not JSON"),
        ([1], DataError, "not a JSON object"),
    ],
)
def test_a_bad_row_is_named_and_the_others_come_through(world: Any, row: Any, kind: type, problem: str) -> None:
    (world.data / "red.png").write_bytes(world.png(200))
    items = read(world, [turns("a", "b"), row, turns("c", "d")], "chat.jsonl")
    assert [hasattr(item, "dialogue") for item in items] == [True, False, True]
    assert isinstance(items[1], kind)
    assert problem in items[1].problem
    assert "chat.jsonl, line 2" in items[1].where


def test_a_cut_off_gzip_is_an_error_of_the_file(world: Any) -> None:
    file = world.lines("chat.jsonl.gz", [turns(f"question {i}", "answer") for i in range(400)])
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(DataError, match="complete JSON lines"):
        list(chat.read(ChatSource(chat="chat.jsonl.gz"), world.context(), "00-chat"))


def test_a_question_is_on_one_side_only(world: Any) -> None:
    rows = [turns(f"question {i % 30}", f"answer {i}") for i in range(120)]
    items = read(world, rows, test_share=0.3)
    sides = [{i.dialogue.messages[0].text for i in items if i.split == split} for split in ("train", "test")]
    assert all(sides)
    assert not sides[0] & sides[1]
