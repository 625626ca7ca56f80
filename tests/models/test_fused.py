"""The fused model: features in their places, gradients, packing, caches, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from caravan.core.errors import ModelError, PlaceholderError
from caravan.models.fused import CaravanForConditionalGeneration
from tests.models.conftest import STACK, fuse

AUDIO, IMAGE = 7, 10
WINDOW = 1500 // STACK
PATCHES = 4


def clips(count: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(count, 80, 3000, generator=torch.Generator().manual_seed(seed))


def pictures(count: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 28, 28, generator=torch.Generator().manual_seed(seed + 100))


def prompt(*parts: int | str) -> list[int]:
    """ "a" is a clip's places, "i" a picture's, a number a token."""
    ids: list[int] = []
    for part in parts:
        ids += [AUDIO] * WINDOW if part == "a" else [IMAGE] * PATCHES if part == "i" else [int(part)]
    return ids


def logits(model: Any, ids: list[list[int]], **batch: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor(ids), **batch).logits


class TestSplice:
    def test_features_stand_in_their_places(self, fused: CaravanForConditionalGeneration) -> None:
        """The same as embeddings put together by hand, from the parts' own outputs."""
        ids = prompt(2, 3, "i", 40, "a", 50)
        fe, px = clips(), pictures()
        model = fused.model
        with torch.no_grad():
            speech = model.speech_projector(model.encode_speech(fe))
            seen = model.vision_encoder(px, output_hidden_states=True).hidden_states[-2][:, 1:]
            embed = model.get_input_embeddings()
            rows = [embed(torch.tensor([2, 3])), model.vision_projector(seen)[0], embed(torch.tensor([40])), speech[0]]
            by_hand = torch.cat([*rows, embed(torch.tensor([50]))])[None]
            expected = fused.lm_head(model.language_model(inputs_embeds=by_hand).last_hidden_state)
        torch.testing.assert_close(logits(fused, [ids], input_features=fe, pixel_values=px), expected)

    def test_order_is_that_of_the_placeholders(self, fused: CaravanForConditionalGeneration) -> None:
        """Two rows, the first with two clips: each clip changes its own row and the tokens after it alone."""
        ids = [prompt("a", 20, "a", 30), prompt(20, 30, "a", 40) + [41] * (WINDOW - 1)]
        fe = clips(3)
        before = logits(fused, ids, input_features=fe)
        for clip, row, first in [(0, 0, 0), (1, 0, WINDOW + 1), (2, 1, 2)]:
            changed = fe.clone()
            changed[clip] = clips(1, seed=9)[0]
            difference = (logits(fused, ids, input_features=changed) - before).abs().amax(-1)
            touched = difference > 1e-6
            assert not touched[1 - row].any()
            assert not touched[row, :first].any()
            assert touched[row, first : first + WINDOW].all()

    def test_states_instead_of_features(self, fused: CaravanForConditionalGeneration) -> None:
        ids = [prompt("a", 20, "i", 30)]
        fe, px = clips(), pictures()
        with torch.no_grad():
            states = {"speech_states": fused.model.encode_speech(fe), "vision_states": fused.model.encode_image(px)}
        assert states["speech_states"].shape == (1, 1500, 16 + 1)  # with their root mean squares
        assert states["vision_states"].shape == (1, 16, 16)
        torch.testing.assert_close(logits(fused, ids, **states), logits(fused, ids, input_features=fe, pixel_values=px))

    @pytest.mark.parametrize(
        ("ids", "batch", "message"),
        [
            (prompt("a", 3), {}, r"expected: 30 features for 30 placeholders\n  got: 0 features"),
            (prompt("i", 3), {}, r"expected: 4 features for 4 placeholders\n  got: 0 features"),
            (prompt(3, 4), {"input_features": 1}, r"expected: 0 features[\s\S]*got: 30 features"),
            (prompt(3, 4), {"pixel_values": 1}, r"expected: 0 features[\s\S]*got: 4 features"),
            (prompt("a", 3)[1:], {"input_features": 1}, r"expected: 29 features[\s\S]*got: 30 features"),
            (prompt("a", 3), {"input_features": 2}, r"expected: 30 features[\s\S]*got: 60 features"),
            (prompt("i", "a", 3), {"pixel_values": 1}, r"speech features do not match[\s\S]*got: 0 features"),
        ],
    )
    def test_mismatch(
        self, fused: CaravanForConditionalGeneration, ids: list[int], batch: dict[str, int], message: str
    ) -> None:
        make = {"input_features": clips, "pixel_values": pictures}
        with pytest.raises(PlaceholderError, match=message):
            logits(fused, [ids], **{name: make[name](count) for name, count in batch.items()})

    def test_nothing_to_compute(self, fused: CaravanForConditionalGeneration) -> None:
        with pytest.raises(ModelError, match="nothing to compute"):
            fused()

    def test_inputs_embeds_are_taken_as_they_are(self, fused: CaravanForConditionalGeneration) -> None:
        ids = torch.tensor([[20, 30, 40]])
        with torch.no_grad():
            got = fused(inputs_embeds=fused.get_input_embeddings()(ids)).logits
        torch.testing.assert_close(got, logits(fused, [[20, 30, 40]]))


class TestTraining:
    def test_gradients_reach_projectors_and_text_and_not_frozen_encoders(
        self, folders: Path, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        model = fuse(folders, tokenizer).train()
        ids = torch.tensor([prompt("a", 20, "i", 30, 31)])
        labels = torch.where((ids == AUDIO) | (ids == IMAGE), -100, ids)
        model(input_ids=ids, input_features=clips(), pixel_values=pictures(), labels=labels).loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad is ("encoder" not in name), name
            if "encoder" in name:
                assert parameter.grad is None, name
            else:
                assert parameter.grad is not None, name
                assert parameter.grad.any(), name

    @pytest.mark.parametrize("media", [(), ("a",), ("i",)])
    def test_every_projector_parameter_is_in_every_graph(
        self, folders: Path, tokenizer: PreTrainedTokenizerFast, media: tuple[str, ...]
    ) -> None:
        """Else processes that train together would wait for each other for ever."""
        model = fuse(folders, tokenizer).train()
        ids = torch.tensor([prompt(*media, 20, 30)])
        batch = {
            "input_features": clips() if "a" in media else None,
            "pixel_values": pictures() if "i" in media else None,
        }
        labels = torch.where((ids == AUDIO) | (ids == IMAGE), -100, ids)
        model(input_ids=ids, labels=labels, **batch).loss.backward()
        for sense, letter in (("speech", "a"), ("vision", "i")):
            for name, parameter in getattr(model.model, f"{sense}_projector").named_parameters():
                assert parameter.grad is not None, f"{sense} {name}"
                assert bool(parameter.grad.any()) is (letter in media), f"{sense} {name}"

    def test_touching_changes_no_value(self, fused: CaravanForConditionalGeneration) -> None:
        ids = [[20, 30, 40]]
        assert torch.equal(fused(input_ids=torch.tensor(ids)).logits.detach(), logits(fused, ids))

    @pytest.mark.parametrize("items", [None, torch.tensor(5.0)])
    def test_training_reads_only_the_learnt_positions_and_has_the_same_loss(
        self, fused: CaravanForConditionalGeneration, items: torch.Tensor | None
    ) -> None:
        ids = torch.tensor([[20, 30, 40, 50, 60], [21, 31, 41, 51, 61]])
        labels = torch.tensor([[-100, -100, 40, -100, 60], [-100, -100, -100, -100, -100]])
        expected = fused.eval()(input_ids=ids, labels=labels, num_items_in_batch=items).loss
        trained = fused.train()(input_ids=ids, labels=labels, num_items_in_batch=items)
        nothing = fused(input_ids=ids[1:], labels=labels[1:])
        fused.eval()
        assert trained.logits is None
        torch.testing.assert_close(trained.loss, expected)
        assert nothing.loss == 0.0

    def test_loss_is_the_mean_over_labels(self, fused: CaravanForConditionalGeneration) -> None:
        ids = torch.tensor([[20, 30, 40, 50]])
        labels = torch.tensor([[-100, -100, 40, 50]])
        with torch.no_grad():
            output = fused(input_ids=ids, labels=labels)
        log = output.logits.log_softmax(-1)
        torch.testing.assert_close(output.loss, -(log[0, 1, 40] + log[0, 2, 50]) / 2)
        assert output.past_key_values is None

    def test_packed_documents_do_not_see_each_other(self, fused: CaravanForConditionalGeneration) -> None:
        first, second = prompt(20, "a", 21, 22), prompt(30, "i", 31)
        positions = torch.tensor([[*range(len(first)), *range(len(second))]])
        packed = logits(
            fused,
            [first + second],
            position_ids=positions,
            input_features=clips(),
            pixel_values=pictures(),
            use_cache=False,
        )
        alone = [logits(fused, [first], input_features=clips()), logits(fused, [second], pixel_values=pictures())]
        torch.testing.assert_close(packed, torch.cat(alone, dim=1), atol=1e-5, rtol=1e-4)

    def test_activation_checkpointing_gives_the_same_gradients(
        self, folders: Path, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        def gradients(checkpointing: bool) -> list[Tensor]:
            model = fuse(folders, tokenizer).train()
            if checkpointing:
                model.activation_checkpointing_enable()
            ids = torch.tensor([prompt("a", 20, 30)])
            labels = torch.where(ids == AUDIO, -100, ids)
            model(input_ids=ids, input_features=clips(), labels=labels).loss.backward()
            return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

        for plain, checkpointed in zip(gradients(False), gradients(True), strict=True):
            torch.testing.assert_close(plain, checkpointed)

    def test_bfloat16_autocast(self, fused: CaravanForConditionalGeneration) -> None:
        ids = [prompt("a", 20, "i", 30)]
        exact = logits(fused, ids, input_features=clips(), pixel_values=pictures())
        with torch.autocast("cpu", torch.bfloat16):
            rough = logits(fused, ids, input_features=clips(), pixel_values=pictures())
        assert float((rough - exact).norm() / exact.norm()) < 0.05


class TestGeneration:
    @pytest.fixture
    def batch(self) -> dict[str, Tensor]:
        return {
            "input_ids": torch.tensor([prompt("a", 20, "i", 30)]),
            "input_features": clips(),
            "pixel_values": pictures(),
        }

    def test_with_cache_equals_without(self, fused: CaravanForConditionalGeneration, batch: dict[str, Tensor]) -> None:
        how = {"do_sample": False, "max_new_tokens": 8, "min_new_tokens": 8}
        cached = fused.generate(**batch, **how, use_cache=True)
        assert torch.equal(cached, fused.generate(**batch, **how, use_cache=False))
        ids = batch["input_ids"]
        for _ in range(8):
            step = fused(input_ids=ids, input_features=batch["input_features"], pixel_values=batch["pixel_values"])
            scores = step.logits[:, -1].clone()
            scores[:, 0] = -torch.inf  # the end of text, held back by min_new_tokens
            ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=1)
        assert torch.equal(cached, ids)

    def test_a_placeholder_that_the_model_says_is_a_token(self, fused: CaravanForConditionalGeneration) -> None:
        with torch.no_grad():
            past = fused(input_ids=torch.tensor([[20, 30]]), use_cache=True).past_key_values
            after = fused(input_ids=torch.tensor([[AUDIO]]), past_key_values=past, use_cache=True)
        assert after.logits.shape == (1, 1, 320)

    def test_several_answers_keep_media_with_their_prompt(self, fused: CaravanForConditionalGeneration) -> None:
        """Two clips in the first prompt and one in the second; beams of the batch equal beams of each alone."""
        ids = torch.tensor([prompt("a", 20, "a", 30), prompt("a", 40) + [41] * (WINDOW + 1)])
        fe = clips(3)
        how = {"do_sample": False, "num_beams": 2, "max_new_tokens": 4, "min_new_tokens": 4}
        together = fused.generate(input_ids=ids, attention_mask=torch.ones_like(ids), input_features=fe, **how)
        for row, windows in ((0, fe[:2]), (1, fe[2:])):
            one = ids[row : row + 1]
            alone = fused.generate(input_ids=one, attention_mask=torch.ones_like(one), input_features=windows, **how)
            assert torch.equal(together[row], alone[0])

    def test_logits_to_keep(self, fused: CaravanForConditionalGeneration) -> None:
        ids = [[20, 30, 40]]
        torch.testing.assert_close(logits(fused, ids, logits_to_keep=1), logits(fused, ids)[:, -1:])


class TestSaving:
    @pytest.mark.parametrize("text", ["text", "untied"])
    def test_round_trip(self, folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, text: str) -> None:
        model = fuse(folders, tokenizer, text)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        assert type(loaded) is CaravanForConditionalGeneration
        batch = {"input_features": clips(), "pixel_values": pictures()}
        ids = [prompt("a", 20, "i", 30)]
        assert torch.equal(logits(loaded, ids, **batch), logits(model, ids, **batch))
        assert loaded.config.to_dict() | {"_name_or_path": ""} == model.config.to_dict()
        tied = loaded.lm_head.weight is loaded.get_input_embeddings().weight
        assert tied is (text == "text")
        assert loaded.state_dict().keys() == model.state_dict().keys()

    def test_tied_head_is_saved_once_and_no_folder_of_this_machine(
        self, fused: CaravanForConditionalGeneration, folders: Path, tmp_path: Path
    ) -> None:
        from safetensors import safe_open

        fused.save_pretrained(tmp_path)
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            assert not [key for key in file.keys() if key.startswith("lm_head")]  # noqa: SIM118
        assert str(folders) not in (tmp_path / "config.json").read_text()

    def test_new_tokens_get_rows(self, folders: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        model = fuse(folders, tokenizer)
        model.resize_token_embeddings(330)
        assert logits(model, [[20, 329]]).shape[-1] == 330
        assert model.lm_head.weight is model.get_input_embeddings().weight


class TestPeft:
    @pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft's use of it
    def test_lora_on_the_text_model_trains_generates_and_is_put_on_again(
        self, folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        """With gradient checkpointing, as an outsider does it: encoders have layers of the same names."""
        from peft import LoraConfig, PeftModel, get_peft_model

        config = LoraConfig(r=4, target_modules=r"model\.language_model\..*\.(q_proj|v_proj)", init_lora_weights=False)
        batch = {
            "input_ids": torch.tensor([prompt("a", 20, "i", 30)]),
            "input_features": clips(),
            "pixel_values": pictures(),
        }
        torch.manual_seed(0)
        model = get_peft_model(fuse(folders, tokenizer), config)
        model.activation_checkpointing_enable()
        model.train()(**batch, labels=batch["input_ids"]).loss.backward()
        trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert trained
        assert all(".language_model." in name and ".lora_" in name for name in trained)
        model.eval()
        how = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5}
        answer = model.generate(**batch, **how)
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(fuse(folders, tokenizer), tmp_path).eval()
        assert torch.equal(again.generate(**batch, **how), answer)
        assert torch.equal(again.merge_and_unload().generate(**batch, **how), answer)


def test_an_encoder_wrapped_whole_says_how_to_shard_it(fused: CaravanForConditionalGeneration) -> None:
    encoder: Any = fused.model.vision_encoder
    kind = type(encoder)
    encoder.__class__ = type(f"FSDP{kind.__name__}", (kind,), {})  # as torch's fully_shard does
    try:
        with pytest.raises(ModelError, match="shard the encoder's layers"):
            fused.model.encode_image(pictures())
    finally:
        encoder.__class__ = kind
