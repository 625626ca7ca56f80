"""Every format is told from its files, read row by row, and made into the same dialogues."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import typing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caravan.core.errors import DataError
from caravan.instruct import formats
from caravan.instruct.rows import Item, faults_of
from caravan.recipe.instruct import DataFormat, DataSource
from caravan.records import AudioPart, Dialogue, ImagePart, dialogues_to_table
from caravan.text.instructions import INSTRUCTIONS

TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "red"}]
CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


def read(world: Any, path: str, **keys: Any) -> list[Item | DataError]:
    source = DataSource.model_validate({"path": path, "test_share": 0.0, **keys})
    return list(formats.read(source, world.context(), "00-path"))


def dialogues(world: Any, path: str, **keys: Any) -> list[Dialogue]:
    items = read(world, path, **keys)
    assert [str(item) for item in items if isinstance(item, DataError)] == []
    return [item.dialogue for item in items if isinstance(item, Item)]


def told(world: Any, path: str) -> str:
    source = DataSource(path=path)
    return next(kind for _, kind in formats.located(source, world.context()))


def put(world: Any, name: str, data: bytes | str) -> Path:
    path = world.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_the_recipe_knows_the_formats_of_the_table() -> None:
    assert set(typing.get_args(DataFormat)) == {"auto", *formats.FORMATS}


@pytest.mark.parametrize("pack", ["", ".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_llava_in_every_container(world: Any, suffix: str, pack: str) -> None:
    rows = [{"id": f"{i}", "image": "pics/red.png", "conversations": TURNS} for i in range(3)]
    put(world, "pics/red.png", world.png(200))
    if suffix == ".parquet":
        world.parquet(f"l{suffix}", rows)
        pack = ""
    else:
        text = json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows))
        with pa.output_stream(str(world.data / f"l{suffix}{pack}"), compression="detect") as stream:
            stream.write(text.encode())
    assert told(world, f"l{suffix}{pack}") == "llava"
    found = dialogues(world, f"l{suffix}{pack}", language="en")
    assert len(found) == 3
    for dialogue in found:
        assert isinstance(dialogue.messages[0].content[0], ImagePart)
        assert dialogue.messages[0].text == "What is it?"
        assert (dialogue.task, dialogue.messages[1].text) == ("picture", "red")
        assert dialogue.images[0].bytes is None, "a picture stays where it is"
        assert dialogue.images[0].read() == world.png(200)


def test_pictures_below_another_folder(world: Any) -> None:
    put(world, "elsewhere/coco/red.png", world.png(200))
    put(world, "a/llava.jsonl", json.dumps({"image": "coco/red.png", "conversations": TURNS}))
    (found,) = dialogues(world, "a/llava.jsonl", language="en", media=str(world.data / "elsewhere"))
    assert found.images[0].path == str(world.data / "elsewhere/coco/red.png")
    (again,) = dialogues(world, "a/llava.jsonl", language="en", media="elsewhere")
    assert again.images == found.images, "a folder is relative to the data, like every path of a recipe"


def test_llasm_speaks_and_names_its_system_prompt(world: Any) -> None:
    put(world, "0.wav", world.wav(0.2))
    turns = [{"from": "human", "value": "<audio>"}, {"from": "gpt", "value": "sure"}]
    world.lines("s.jsonl", [{"audio": "0.wav", "instruction": "be kind", "conversations": turns}])
    assert told(world, "s.jsonl") == "llasm"
    (found,) = dialogues(world, "s.jsonl", language="en")
    assert [message.role for message in found.messages] == ["system", "user", "assistant"]
    assert isinstance(found.messages[1].content[0], AudioPart)
    assert found.task == "speech"


def test_sharegpt_alpaca_and_openai_say_the_same(world: Any) -> None:
    shared = [{"from": "human", "value": "hi\u2028there"}, {"from": "gpt", "value": "ho"}]
    world.lines("sharegpt.jsonl", [{"lang": "en", "conversations": shared}])
    world.lines("openai.jsonl", [{"lang": "en", "messages": [{"role": "user", "content": "hi\u2028there"}, CHAT[1]]}])
    world.lines("alpaca.jsonl", [{"lang": "en", "instruction": "hi\u2028there", "input": "", "output": "ho"}])
    kinds = [told(world, f"{name}.jsonl") for name in ("sharegpt", "openai", "alpaca")]
    assert kinds == ["sharegpt", "openai", "alpaca"]
    one, two, three = ([d.messages for d in dialogues(world, f"{kind}.jsonl")] for kind in kinds)
    assert one == two == three


def test_alpaca_with_input_history_and_system(world: Any) -> None:
    row = {"instruction": "Add", "input": "1 2", "output": "3", "history": [["hi", "ho"]], "system": "be brief"}
    world.lines("a.jsonl", [row])
    (found,) = dialogues(world, "a.jsonl", language="en")
    said = [(message.role, message.text) for message in found.messages]
    assert said == [("system", "be brief"), ("user", "hi"), ("assistant", "ho"), ("user", "Add\n1 2"),
                    ("assistant", "3")]  # fmt: skip


def test_openai_parts_with_media_inside(world: Any) -> None:
    put(world, "red.png", world.png(9))
    code = base64.b64encode
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code(world.png(5)).decode()}"}},
        {"type": "image", "image": "red.png"},
        {"type": "text", "text": "these, and"},
        {"type": "input_audio", "input_audio": {"data": code(world.wav(0.3)).decode(), "format": "wav"}},
    ]
    world.lines("o.jsonl", [{"lang": "en", "messages": [{"role": "user", "content": content}, CHAT[1]]}])
    (found,) = dialogues(world, "o.jsonl")
    assert [media.read() for media in found.images] == [world.png(5), world.png(9)]
    assert found.audios[0].read() == world.wav(0.3)
    assert found.task == "both"


def test_own_dialogues_come_back_as_they_were(world: Any) -> None:
    put(world, "0.wav", world.wav(0.2))
    world.lines("t.tsv", [b"path\tsentence\tlocale", b"0.wav\thello\ten"])
    made = dialogues(world, "t.tsv")
    pq.write_table(dialogues_to_table(made), world.data / "own.parquet")
    assert told(world, "own.parquet") == "dialogues"
    (again,) = dialogues(world, "own.parquet")
    assert (again.messages, again.task, again.language) == (made[0].messages, "transcribe", "en")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("t.tsv", [b"client_id\tpath\tsentence\tlocale", b's1\t0.wav\tsay "hello\ten']),
        ("t.csv", [b"file_name,transcription,lang", b'0.wav,"say ""hello",en-GB']),
        ("bare.tsv", [b'0.wav\tsay "hello']),
        ("nemo.json", [json.dumps({"audio_filepath": "0.wav", "text": 'say "hello', "lang": "eng"}).encode()]),
    ],
)
def test_tables_of_paths_and_transcripts(world: Any, name: str, lines: list[bytes]) -> None:
    put(world, "0.wav", world.wav(0.2))
    world.lines(name, lines)
    assert told(world, name) == "table"
    (found,) = dialogues(world, name, **({"language": "en"} if name == "bare.tsv" else {}))
    assert found.messages[1].text == 'say "hello'
    assert found.messages[0].text in INSTRUCTIONS["transcribe"]["en"]
    assert found.audios[0].path == str(world.data / "0.wav")


def test_parquet_of_the_hub_with_media_inside(world: Any) -> None:
    rows = [{"audio": {"bytes": world.wav(0.2), "path": "x.wav"}, "text": "hello", "lang": "en"}]
    world.parquet("hub.parquet", rows)
    (found,) = dialogues(world, "hub.parquet")
    assert (found.audios[0].bytes, found.audios[0].path) == (world.wav(0.2), None)


def test_instructions_stand_before_and_after_in_every_wording(world: Any) -> None:
    put(world, "0.wav", world.wav(0.2))
    world.lines("t.tsv", [b"path\ttext", *(f"0.wav\ttext {i}".encode() for i in range(60))])
    found = dialogues(world, "t.tsv", language="de", heard=["transcribe", "speech"])
    assert len(found) == 120
    assert {isinstance(d.messages[0].content[0], AudioPart) for d in found} == {True, False}
    wordings = {d.messages[0].text for d in found if d.task == "transcribe"}
    assert wordings == set(INSTRUCTIONS["transcribe"]["de"])


def clip(world: Any, name: str) -> None:
    put(world, name, world.wav(0.2))


def test_aishell(world: Any) -> None:
    put(world, "data_aishell/transcript/aishell_transcript_v0.8.txt",
        "BAC009S0002W0122 而 对 楼市\nBAC009S0764W0121 甚至 AI 出现\n")  # fmt: skip
    clip(world, "data_aishell/wav/train/S0002/BAC009S0002W0122.wav")
    clip(world, "data_aishell/wav/test/S0764/BAC009S0764W0121.wav")
    assert told(world, "data_aishell") == "aishell"
    items = read(world, "data_aishell")
    assert [(i.split, i.dialogue.messages[1].text, i.dialogue.group) for i in items if isinstance(i, Item)] == [
        ("train", "而对楼市", ""),
        ("test", "甚至AI出现", "its test split"),
    ]


def test_librispeech(world: Any) -> None:
    for subset, chapter in (("train-clean-100", "19-198"), ("dev-other", "84-121")):
        folder = f"LibriSpeech/{subset}/{chapter.replace('-', '/')}"
        put(world, f"{folder}/{chapter}.trans.txt", f"{chapter}-0000 HELLO WORLD\n")
        put(world, f"{folder}/{chapter}-0000.flac", flac(world))
    assert told(world, "LibriSpeech") == "librispeech"
    items = [item for item in read(world, "LibriSpeech") if isinstance(item, Item)]
    assert sorted((i.split, i.dialogue.messages[1].text) for i in items) == [
        ("test", "hello world"),
        ("train", "hello world"),
    ]


def flac(world: Any) -> bytes:
    import soundfile

    wave, rate = soundfile.read(io.BytesIO(world.wav(0.2)))
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="FLAC")
    return buffer.getvalue()


def test_magicdata_and_primewords(world: Any) -> None:
    put(world, "magic/train/TRANS.txt", "UtteranceID\tSpeakerID\tTranscription\n14_1.wav\t14_3466\t今天 天气\n")
    clip(world, "magic/train/14_3466/14_1.wav")
    rows = [{"id": "1", "file": "ab12.wav", "user_id": "7", "length": "1.0", "text": "你 好"}]
    put(world, "prime/set1_transcript.json", json.dumps(rows))
    clip(world, "prime/audio_files/a/ab/ab12.wav")
    assert [told(world, name) for name in ("magic", "prime")] == ["magicdata", "primewords"]
    texts = [dialogues(world, name)[0].messages[1].text for name in ("magic", "prime")]
    assert texts == ["今天天气", "你好"]


def test_common_voice(world: Any) -> None:
    head = "client_id\tpath\tsentence\tlocale\n"
    for name in ("train", "dev", "validated"):
        put(world, f"cv/{name}.tsv", head + f"s\t{name}.mp3\tsay {name}\tzh-CN\n")
    for name in ("train", "dev"):
        clip(world, f"cv/clips/{name}.mp3")
    assert told(world, "cv") == "common-voice"
    items = [item for item in read(world, "cv") if isinstance(item, Item)]
    found = {i.dialogue.messages[1].text: (i.split, i.dialogue.language) for i in items}
    assert found == {"say train": ("train", "zh"), "say dev": ("test", "zh")}
    clip(world, "cv/clips/validated.mp3")
    assert told(world, "cv/validated.tsv") == "common-voice"
    assert [d.messages[1].text for d in dialogues(world, "cv/validated.tsv")] == ["say validated"]


def test_covost_asks_for_the_translation_too(world: Any) -> None:
    head = "client_id\tpath\tsentence\ttranslation\n"
    put(world, "covost.tsv", head + "s\ta.wav\tguten Tag\tgood day\ns\tb.wav\tja\t\n")
    for name in ("a", "b"):
        clip(world, f"{name}.wav")
    items = list(read(world, "covost.tsv", language="de", translated="en"))
    found = {(i.dialogue.task, i.dialogue.language): i.dialogue for i in items if isinstance(i, Item)}
    assert {key: one.messages[1].text for key, one in found.items()} == {
        ("transcribe", "de"): "guten Tag",
        ("translate", "en"): "good day",
    }
    asked = found["translate", "en"].messages[0]
    assert asked.text in INSTRUCTIONS["translate"]["en"]
    assert [part.text for part in asked.content if part.type == "audio"] == ["guten Tag"]
    (fault,) = (item for item in items if not isinstance(item, Item))
    assert "no translation" in str(fault)


def test_folders_with_metadata_and_folders_of_classes(world: Any) -> None:
    clip(world, "a/train/x/0.wav")
    put(world, "a/train/metadata.csv", "file_name,transcription\nx/0.wav,hello\n")
    put(world, "i/metadata.jsonl", json.dumps({"file_name": "r.png", "text": "a red dot"}))
    put(world, "i/r.png", world.png(200))
    put(world, "c/red_dot/0.png", world.png(200))
    assert [told(world, name) for name in "aic"] == ["audiofolder", "imagefolder", "imagefolder"]
    texts = [dialogues(world, name, language="en")[0].messages[1].text for name in "aic"]
    assert texts == ["hello", "a red dot", "red dot"]


def archive(world: Any, name: str, members: dict[str, bytes]) -> Path:
    path: Path = world.data / name
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    path.write_bytes(gzip.compress(buffer.getvalue()) if name.endswith(".gz") else buffer.getvalue())
    return path


@pytest.mark.parametrize("name", ["w-000.tar", "w-000.tar.gz"])
def test_webdataset_of_captions_clips_and_conversations(world: Any, name: str) -> None:
    talk = json.dumps({"conversations": TURNS, "lang": "de"}).encode()
    members = {
        "000.png": world.png(7), "000.json": b'{"lang": "en"}', "000.txt": b"a red dot",
        "001.wav": world.wav(0.2), "001.json": b'{"lang": "en", "text": "hello"}',
        "d/002.json": talk, "d/002.png": world.png(8),
    }  # fmt: skip
    archive(world, name, members)
    assert told(world, name) == "webdataset"
    picture, spoken, talked = dialogues(world, name)
    assert (picture.messages[1].text, spoken.messages[1].text, talked.messages[1].text) == ("a red dot", "hello", "red")
    assert [d.images[0].read() for d in (picture, talked)] == [world.png(7), world.png(8)]
    assert spoken.audios[0].read() == world.wav(0.2)
    in_place = picture.images[0].path is not None
    assert in_place == name.endswith(".tar"), "a medium of a plain archive stays in it"


def test_a_cut_off_archive_names_its_sample(world: Any) -> None:
    path = archive(world, "w.tar", {f"{i}.{end}": data for i in range(9) for end, data in
                                    (("png", world.png(i)), ("txt", b"dot"))})  # fmt: skip
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"w.tar, sample \d(.|\n)*complete tar"):
        read(world, "w.tar", language="en")


def test_a_folder_of_clips_with_a_table_is_no_common_voice(world: Any) -> None:
    clip(world, "mine/clips/0.wav")
    put(world, "mine/metadata.csv", "file_name,text\nclips/0.wav,hello\n")
    assert told(world, "mine") == "audiofolder"
    assert len(dialogues(world, "mine", language="en")) == 1


def test_a_folder_of_files_is_read_file_by_file(world: Any) -> None:
    put(world, "mix/a.jsonl", json.dumps({"lang": "en", "messages": CHAT}))
    put(world, "mix/b/c.json", json.dumps([{"lang": "de", "instruction": "x", "output": "y"}]))
    assert {d.language for d in dialogues(world, "mix")} == {"en", "de"}


def test_a_format_that_is_not_known_says_what_is(world: Any) -> None:
    world.lines("odd.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(DataError, match=r"odd.jsonl(.|\n)*conversations\+image(.|\n)*columns question, answer"):
        read(world, "odd.jsonl")
    (world.data / "empty").mkdir()
    with pytest.raises(DataError, match="not known"):
        read(world, "empty")
    world.lines("named.jsonl", [{"lang": "en", "talk": CHAT}])
    assert len(dialogues(world, "named.jsonl", format="openai", columns={"messages": "talk"})) == 1


def test_languages_by_column_code_and_text(world: Any) -> None:
    german = [{"role": "user", "content": "Wie heißt die Hauptstadt von Frankreich, und wie groß ist sie?"},
              {"role": "assistant", "content": "Sie heißt Paris und hat zwei Millionen Einwohner."}]  # fmt: skip
    world.lines("l.jsonl", [{"locale": "zh-TW", "messages": CHAT}, {"locale": "fi", "messages": german}])
    assert [d.language for d in dialogues(world, "l.jsonl")] == ["zh"], "a language that the run has not is left out"
    assert [d.language for d in dialogues(world, "l.jsonl", language="de")] == ["de", "de"]
    assert "de" in [d.language for d in dialogues(world, "l.jsonl", language="detect")]


def test_caps_limits_and_held_out_speakers(world: Any) -> None:
    long = [{"role": "user", "content": "a" * 50}, CHAT[1]]
    rows = [{"lang": "en", "messages": long}]
    rows += [
        {"lang": "en", "messages": [{"role": "user", "content": f"q{i}"}, CHAT[1]], "by": f"s{i}"} for i in range(5)
    ]
    world.lines("c.jsonl", rows)
    items = read(world, "c.jsonl", max_characters=30, limit=3, heldout={"by": ["s1"]})
    assert [(i.dialogue.messages[0].text, i.split) for i in items if isinstance(i, Item)] == [
        ("q0", "train"),
        ("q1", "test"),
        ("q2", "train"),
    ]


def test_a_question_is_on_one_side_only(world: Any) -> None:
    rows = [
        {"lang": "en", "messages": [{"role": "user", "content": f"question {i % 30}"}, CHAT[1]]} for i in range(120)
    ]
    world.lines("q.jsonl", rows)
    items = read(world, "q.jsonl", test_share=0.3)
    sides = [
        {i.dialogue.messages[0].text for i in items if isinstance(i, Item) and i.split == split}
        for split in ("train", "test")
    ]
    assert all(sides)
    assert not sides[0] & sides[1]


FAULTS: list[tuple[Any, list[str]]] = [
    ({"messages": TURNS}, ["image placeholders and image media differ in number"]),
    ({"messages": CHAT, "images": ["red.png"]}, ["image placeholders and image media differ in number"]),
    ({"messages": TURNS, "images": ["gone.png"]}, ["a media file is missing"]),
    ({"messages": TURNS, "images": ["broken.png"]}, ["the picture cannot be decoded"]),
    ({"messages": TURNS, "images": ["https://x.org/a.png"]}, ["media elsewhere are not fetched"]),
    ({"messages": [{"role": "user", "content": "<|end|>"}, CHAT[1]]}, ["text contains the special token <|end|>"]),
    ({"messages": [CHAT[0]]}, ["turns do not alternate"]),
    ({"messages": [*CHAT, CHAT[1]]}, ["turns do not alternate"]),
    ({"messages": [{"role": "judge", "content": "x"}, CHAT[1]]}, ["unknown role"]),
    ({"messages": [CHAT[0], {"role": "assistant", "content": "  "}]}, ["empty answer"]),
    ({"messages": [{"role": "user", "content": ""}, CHAT[1]]}, ["empty turn"]),
    ({"messages": [{"role": "user", "content": 5}, CHAT[1]]}, ["content of a wrong type"]),
    ({"messages": ["hi"]}, ["not a message"]),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}, CHAT[1]]}, ["unknown content"]),
    ({"messages": "hi"}, ["no messages"]),
    ({"messages": CHAT, "lang": None}, ["language unknown"]),
    (
        {"messages": [{"role": "judge", "content": "<image>"}, {"role": "gpt", "content": ""}], "images": ["gone.png"],
         "lang": "nonsense"},
        ["a media file is missing", "unknown role", "empty answer", "language unknown"],
    ),
    (b'{"lang": "en", ', ["not JSON"]),
    (b'"\xff\xfe"', ["not JSON"]),
    ([1], ["not a JSON object"]),
]  # fmt: skip


@pytest.mark.parametrize(("row", "problems"), FAULTS, ids=[" and ".join(problems) for _, problems in FAULTS])
def test_every_fault_of_a_bad_row_is_named_and_the_others_come_through(
    world: Any, row: Any, problems: list[str]
) -> None:
    put(world, "red.png", world.png(200))
    put(world, "broken.png", world.png(200)[:40])
    good = {"lang": "en", "messages": CHAT}
    world.lines("chat.jsonl", [good, {"lang": "en", **row} if isinstance(row, dict) else row, good])
    before, bad, after = read(world, "chat.jsonl")
    assert isinstance(before, Item)
    assert isinstance(after, Item)
    assert isinstance(bad, DataError)
    assert [fault.problem for fault in faults_of(bad)] == problems
    assert all("chat.jsonl, line 2" in str(fault.where) and fault.expected for fault in faults_of(bad))
    assert all(fault.fix for fault in faults_of(bad))


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("a.json", b'[{"instruction": "a", "output": "b"}, {"instr', r"after item 0(.|\n)*complete JSON array"),
        ("a.json", b'{\n "data": [{"instruction": "a", "output": "b"}]\n}', "neither a JSON array nor JSON lines"),
        ("a.csv", b'path,text\n0.wav,"open\n', "CSV in UTF-8"),
        ("a.tsv", b"path\ttext\n0.wav\t\xff\xfe\n", "TSV in UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"instruction": "a", "output": "b"}\n' * 999)[:-9], "complete JSON lines"),
        ("a.parquet", b"PAR1 and no more", "complete Parquet"),
        ("a.tar", b"no archive at all" * 99, "complete tar"),
        ("a.doc", b"x", "no file of rows"),
    ],
)
def test_a_broken_file_is_named(world: Any, name: str, data: bytes, match: str) -> None:
    put(world, name, data)
    clip(world, "0.wav")
    with pytest.raises(DataError, match=match) as caught:
        read(world, name, language="en")
    assert name in str(caught.value)


def test_a_line_with_too_many_cells_is_set_aside(world: Any) -> None:
    clip(world, "0.wav")
    put(world, "t.csv", "path,text\n0.wav,hello, world\n0.wav,hi\n")
    bad, good = read(world, "t.csv", language="en")
    assert isinstance(bad, DataError)
    assert "t.csv, line 2" in str(bad)
    assert isinstance(good, Item)
