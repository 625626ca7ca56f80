"""Preparing dialogues and packing them with their media."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from caravan.core.errors import DataError, MediaError, PlaceholderError, UnsupervisedError
from caravan.core.files import write_table
from caravan.media.features import MediaSpec
from caravan.recipe.train import SftConfig
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, dialogues_to_table
from caravan.train.dialogue_rows import Sense, collate, plan_dialogues
from caravan.train.dialogues import Prepared, prepare
from caravan.train.states import Encoder, sense_of
from tests.train.conftest import clip_bytes, picture_bytes

SPEC = MediaSpec(
    n_mels=80, audio_tokens_per_window=4, image_size=16, image_mean=(0.5,) * 3, image_std=(0.5,) * 3, image_tokens=5
)


def files(artifact):
    return sorted((artifact.path / "train").glob("*.parquet"))


@pytest.fixture
def prepared(dialogues_artifact, tokenizer, tmp_path):
    return prepare(files(dialogues_artifact), tokenizer, SPEC, 64, tmp_path / "dialogues")


def test_media_in_files_and_archives_are_read_when_they_are_needed(tokenizer, tmp_path):
    picture = picture_bytes("red")
    (tmp_path / "a.png").write_bytes(picture)
    (tmp_path / "w.tar").write_bytes(bytes(512) + picture + bytes(512))
    references = [str(tmp_path / "a.png"), f"{tmp_path / 'w.tar'}:512:{len(picture)}"]
    messages = [
        (Message.of("user", ImagePart(Media(path=path))), Message.of("assistant", "red")) for path in references
    ]
    made = [Dialogue(path, "en", "picture", pair) for path, pair in zip(references, messages, strict=True)]
    write_table(tmp_path / "d.parquet", dialogues_to_table(made))
    prepared = prepare([tmp_path / "d.parquet"], tokenizer, SPEC, 64, tmp_path / "prepared")
    assert prepared.image.table["bytes"].null_count == 2, "nothing was copied"
    assert [prepared.image.read(int(row)) for n in range(2) for row in prepared.image.of(n)] == [picture] * 2


def test_ids_masks_and_media_lie_ready(prepared, tokenizer):
    assert len(prepared) == 16
    ids, learnt = prepared.piece(6)
    text = tokenizer.decode(ids)
    assert text == "<|user|><|audio_start|>" + "<|audio_pad|>" * 4 + "<|audio_end|><|end|><|assistant|>heard 0<|end|>"
    assert tokenizer.decode(ids[learnt]) == "heard 0<|end|>"
    # Six uses of three clips: each is stored once.
    assert len(prepared.audio.table) == 3
    assert prepared.audio.of(6).tolist() == prepared.audio.of(9).tolist() == prepared.audio.of(14).tolist() == [0]
    assert prepared.audio.read(0)[:4] == b"RIFF"
    assert len(prepared.image.table) == 4
    assert prepared.image.of(0).size == 0


def test_what_was_prepared_is_only_opened_again(prepared, tokenizer, tmp_path):
    again = prepare([Path("gone.parquet")], tokenizer, SPEC, 64, tmp_path / "dialogues")
    np.testing.assert_array_equal(again.ids, prepared.ids)


def test_a_half_prepared_folder_is_made_again(dialogues_artifact, tokenizer, tmp_path):
    (tmp_path / "dialogues.partial").mkdir()
    (tmp_path / "dialogues.partial" / "audio.arrow").write_text("torn")
    assert len(prepare(files(dialogues_artifact), tokenizer, SPEC, 64, tmp_path / "dialogues")) == 16


def test_what_is_too_long_or_needs_a_missing_sense_is_counted(dialogues_artifact, tokenizer, tmp_path):
    deaf = replace(SPEC, n_mels=0, audio_tokens_per_window=0)
    counts = prepare(files(dialogues_artifact), tokenizer, deaf, 64, tmp_path / "deaf").counts
    assert counts == {"dialogues": 10, "dropped: has speech, the model has no ears": 6}
    wide = replace(SPEC, image_tokens=60)
    counts = prepare(files(dialogues_artifact), tokenizer, wide, 64, tmp_path / "wide").counts
    assert counts == {"dialogues": 10, "dropped: longer than a sequence": 6}


def test_nothing_left_is_an_error(dialogues_artifact, tokenizer, tmp_path, prepared):
    with pytest.raises(DataError, match="no dialogue is left"):
        prepare(files(dialogues_artifact), tokenizer, SPEC, 3, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    with pytest.raises(DataError, match=r"no dialogue is left[\s\S]*tasks caption[\s\S]*got: tasks both, chat"):
        plan_dialogues(prepared, SftConfig(length=64, tasks=["caption"]), seed=5, pad=1)


def test_only_the_wanted_tasks_come(prepared):
    rows = plan_dialogues(prepared, SftConfig(length=64, epochs=1, tasks=["chat", "both"]), seed=5, pad=1)
    assert sorted(prepared.tasks[rows.order]) == ["both"] * 2 + ["chat"] * 6


def _bad(kind):
    user, answer = Message.of("user", "hello"), Message.of("assistant", "yes")
    if kind is UnsupervisedError:
        return Dialogue("bad", "en", "chat", (user,))
    if kind is PlaceholderError:
        return Dialogue("bad", "en", "chat", (Message.of("user", "say <|audio_pad|>"), answer))
    return Dialogue("bad", "en", "speech", (Message.of("user", AudioPart(Media(bytes=b"noise"))), answer))


@pytest.mark.parametrize("kind", [UnsupervisedError, PlaceholderError, MediaError])
def test_a_bad_row_is_named_with_its_file(kind, tokenizer, tmp_path):
    good = Dialogue("good", "en", "chat", (Message.of("user", "hi"), Message.of("assistant", "ho")))
    write_table(tmp_path / "rows.parquet", dialogues_to_table([good, _bad(kind)]))
    with pytest.raises(kind, match=r"rows.parquet, row 1"):
        prepare([tmp_path / "rows.parquet"], tokenizer, SPEC, 64, tmp_path / "d")


def test_a_truncated_file_is_named(dialogues_artifact, tokenizer, tmp_path):
    data = files(dialogues_artifact)[0].read_bytes()
    (tmp_path / "torn.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"torn.parquet, row 0: dialogues cannot be read"):
        prepare([tmp_path / "torn.parquet"], tokenizer, SPEC, 64, tmp_path / "d")


def test_every_dialogue_comes_once_an_epoch_with_its_media_in_order(prepared):
    rows = plan_dialogues(prepared, SftConfig(epochs=2, length=64, batch=3, micro_batch=3), seed=5, pad=1)
    assert sorted(rows.order[:16]) == sorted(rows.order[16:]) == list(range(16))
    assert len(rows) % 3 == 0
    assert rows.tokens.sum() == 2 * prepared.lengths.sum()
    mark = Sense("input_features", prepared.audio, lambda clip: np.full((1, 2, 2), clip, np.float32))
    marked = replace(rows, senses=(mark,))
    seen = []
    for row in range(len(marked)):
        media = [m for p, _, _ in rows.plan.pieces(row) for m in prepared.audio.of(int(rows.order[p]))]
        arrays = marked[row].get("input_features", np.zeros((0, 2, 2)))
        assert arrays[:, 0, 0].tolist() == media
        assert len(media) * 4 == (marked[row]["input_ids"] == 7).sum()
        seen += media
    assert len(seen) == 2 * 6


def test_a_variant_of_a_medium_is_another_at_each_use_and_the_same_each_time(prepared):
    rows = plan_dialogues(prepared, SftConfig(epochs=2, length=64, batch=3, micro_batch=3), seed=5, pad=1)
    sense = Sense(
        "x", prepared.audio, lambda clip: np.zeros((1, 2, 2)), lambda array, rng: array + rng.integers(1 << 30)
    )
    varied = replace(rows, senses=(sense,))
    drawn = [varied[row]["x"][:, 0, 0] for row in range(len(varied)) if "x" in varied[row]]
    assert len(set(np.concatenate(drawn))) == sum(map(len, drawn)) == 2 * 6
    again = [varied[row]["x"][:, 0, 0] for row in range(len(varied)) if "x" in varied[row]]
    assert np.array_equal(np.concatenate(drawn), np.concatenate(again))


def test_weights_change_the_shares_of_tasks(prepared):
    config = SftConfig(epochs=20, length=64, weights={"chat": 3.0, "speech": 0.0}, batch=1, micro_batch=1)
    tasks = prepared.tasks[plan_dialogues(prepared, config, seed=5, pad=1).order]
    assert "speech" not in tasks
    assert (tasks == "chat").mean() == pytest.approx(18 / 24, abs=0.02)


def test_a_batch_has_the_media_of_all_rows_and_none_where_there_are_none():
    text = {"input_ids": np.arange(4), "position_ids": np.arange(4), "labels": np.arange(4)}
    batch = collate([text, {**text, "pixel_values": np.ones((2, 3, 4, 4), np.float16)}, text])
    assert batch["input_ids"].shape == (3, 4)
    assert batch["pixel_values"].shape == (2, 3, 4, 4)
    assert batch["pixel_values"].dtype == torch.float32
    assert "input_features" not in batch


def test_a_dialogue_alone_is_as_long_as_it_is_and_a_batch_as_its_longest(prepared):
    config = SftConfig(length=64, epochs=1, batch=4, micro_batch=4)
    rows = plan_dialogues(prepared, config, seed=5, pad=1, alone=True)
    lengths = [len(rows[row]["input_ids"]) for row in range(len(rows))]
    assert lengths == prepared.lengths[rows.order[rows.plan.documents]].tolist()
    for start in range(0, len(rows), 4):
        batch = collate([rows[row] for row in range(start, start + 4)], pad=1)
        longest = max(lengths[start : start + 4])
        assert longest <= batch["input_ids"].shape[1] < longest + 8
        for row, length in enumerate(lengths[start : start + 4]):
            assert (batch["input_ids"][row, length:] == 1).all()
            assert (batch["labels"][row, length:] == -100).all()


class Counting:
    """An encoder that counts how often it runs, and stops after some time if told to."""

    def __init__(self, prepared: Prepared, stop_after: int = 10**9) -> None:
        self.calls, self.stop_after = 0, stop_after
        windows = np.ones(len(prepared.image.table), np.int64)
        self.encoder = Encoder("vision", prepared.image, windows, lambda row: np.full((1, 2), row + 0.5), self.encode)

    def encode(self, inputs):
        self.calls += len(inputs)
        if self.calls > self.stop_after:
            raise KeyboardInterrupt
        return inputs[:, :, None] * 2


@pytest.mark.parametrize(("epochs", "budget", "runs"), [(2, 1.0, 5), (1, 1.0, 0), (2, 1e-9, 1)])
def test_states_are_kept_only_if_they_come_again_and_fit(prepared, tmp_path, caplog, epochs, budget, runs):
    counting = Counting(prepared)
    sense = sense_of(
        counting.encoder, np.tile(np.arange(4), epochs), tmp_path, SftConfig(states_gb=budget), autocast=False
    )
    assert counting.calls == runs
    assert sense.argument == ("vision_states" if runs == 5 else "pixel_values")
    if runs == 5:
        assert sense.features(3).tolist() == [[[7.0], [7.0]]]
    assert ("runs in every step" in caplog.text) == (budget < 1.0)


def test_keeping_states_goes_on_after_a_kill(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("caravan.train.states.BATCH", 1)
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)  # the one that stops is then the third
    with pytest.raises(KeyboardInterrupt):
        sense_of(
            Counting(prepared, stop_after=3).encoder, np.tile(np.arange(4), 2), tmp_path, SftConfig(), autocast=False
        )
    with (tmp_path / "vision-" / "states").open("ab") as torn:
        torn.write(b"x")
    counting = Counting(prepared)
    sense = sense_of(counting.encoder, np.tile(np.arange(4), 2), tmp_path, SftConfig(), autocast=False)
    assert counting.calls == 1 + 2
    assert [sense.features(row)[0, 0, 0] for row in range(4)] == [1, 3, 5, 7]


def test_known_words_of_media_lie_ready_each_once(tokenizer, tmp_path):
    clip, picture = Media(bytes=clip_bytes()), Media(bytes=picture_bytes())
    rows = [
        Dialogue(str(n), "en", "both", (Message.of("user", *parts), Message.of("assistant", "yes")))
        for n, parts in enumerate(
            [
                [AudioPart(clip, text="red red square"), ImagePart(picture, text="blue\nblau")],
                [AudioPart(Media(bytes=clip_bytes(pitch=500.0)))],
            ]
        )
    ]
    write_table(tmp_path / "rows.parquet", dialogues_to_table(rows))
    prepared = prepare([tmp_path / "rows.parquet"], tokenizer, SPEC, 64, tmp_path / "d")
    assert prepared.audio.words_of(0).tolist() == sorted(set(tokenizer("red red square")["input_ids"]))
    assert prepared.image.words_of(0).tolist() == sorted(
        {*tokenizer("blue")["input_ids"], *tokenizer("blau")["input_ids"]}
    )
    assert prepared.audio.words_of(1).size == 0
