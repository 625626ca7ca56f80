"""Megatron-Core's distributed checkpoints: any split in and out, beside megatron-core itself."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from caravan.convert.run import convert
from caravan.core.errors import ModelError, UsageError
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import SMALL, assert_same, gpt2, llama, peak_growth, tensors

Saved = Callable[..., Path]


def qwen() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SMALL, tie_word_embeddings=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


BUILDS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "tied llama": lambda: llama(tie_word_embeddings=True),
    "gpt2": gpt2,
    "qwen2": qwen,
}


@pytest.mark.parametrize("split", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("build", BUILDS)
def test_there_and_back_bit_for_bit(saved: Saved, tmp_path: Path, build: str, split: tuple[int, int]) -> None:
    source = saved(BUILDS[build](), "in", torch.bfloat16)
    to = ConvertConfig(to="megatron", tensor_parallel=split[0], pipeline_parallel=split[1])
    convert(source, tmp_path / "megatron", to)
    files = {file.name for file in (tmp_path / "megatron/release").iterdir()}
    assert {name for name in files if name.endswith(".distcp")} == {
        f"__{n}_0.distcp" for n in range(split[0] * split[1])
    }
    convert(tmp_path / "megatron", tmp_path / "again", ConvertConfig())
    assert_same(tmp_path / "again", source)
    assert (tmp_path / "again/tokenizer_config.json").is_file()


@pytest.mark.filterwarnings("ignore:torch.distributed is:UserWarning")
def test_torchs_own_reader_sees_every_chunk_in_its_place(saved: Saved, tmp_path: Path) -> None:
    source = saved(llama(), "in")
    convert(source, tmp_path / "megatron", ConvertConfig(to="megatron", tensor_parallel=2, pipeline_parallel=2))
    ours = tensors(source)
    shapes = {"decoder.layers.mlp.linear_fc1.weight": (2, 96, 32), "embedding.word_embeddings.weight": (256, 32)}
    read = {key: torch.full(shape, torch.nan) for key, shape in shapes.items()}
    dcp.load(read, checkpoint_id=tmp_path / "megatron/release", no_dist=True)
    gate, up = (ours[f"model.layers.1.mlp.{part}_proj.weight"] for part in ("gate", "up"))
    assert torch.equal(read["decoder.layers.mlp.linear_fc1.weight"][1], torch.cat([gate, up]))
    table = read["embedding.word_embeddings.weight"]  # padded to 128 rows a rank
    assert torch.equal(table[:96], ours["model.embed_tokens.weight"])
    assert not table[96:].any()


@pytest.mark.filterwarnings("ignore:torch.distributed is:UserWarning")
def test_layers_under_keys_of_their_own(saved: Saved, tmp_path: Path) -> None:
    """As newer versions keep them: no stack, the halves of a gated layer apart."""
    source = saved(llama(), "in")
    convert(source, tmp_path / "stacked", ConvertConfig(to="megatron"))
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys

    state = _load_state_dict_from_keys(checkpoint_id=tmp_path / "stacked/release")
    apart = {}
    for key, value in state.items():
        if "_extra_state" in key:
            continue
        if not key.startswith("decoder.layers."):
            apart[key] = value
            continue
        for layer, each in enumerate(value):
            own = key.replace("decoder.layers.", f"decoder.layers.{layer}.")
            halves = zip("wv", each.chunk(2), strict=True)
            apart |= (
                {f"{own}_{half}": part.clone() for half, part in halves} if "fc1.weight" in key else {own: each.clone()}
            )
    (tmp_path / "apart").mkdir()
    dcp.save(apart, checkpoint_id=tmp_path / "apart", no_dist=True)
    (tmp_path / "apart/metadata.json").write_text(json.dumps({"sharded_backend": "torch_dist"}))
    with pytest.raises(ModelError, match="what kind of model"):
        convert(tmp_path / "apart", tmp_path / "again", ConvertConfig())
    convert(tmp_path / "apart", tmp_path / "again", ConvertConfig(like=source))
    assert_same(tmp_path / "again", source)


@pytest.mark.parametrize(("split", "what"), [((4, 1), "groups of keys"), ((1, 3), "layers")])
def test_a_split_that_does_not_divide_is_refused(
    saved: Saved, tmp_path: Path, split: tuple[int, int], what: str
) -> None:
    to = ConvertConfig(to="megatron", tensor_parallel=split[0], pipeline_parallel=split[1])
    with pytest.raises(UsageError, match=f"does not divide the {what}"):
        convert(saved(llama(), "in"), tmp_path / "megatron", to)


def test_another_config_is_refused(saved: Saved, tmp_path: Path) -> None:
    convert(saved(llama(), "in"), tmp_path / "megatron", ConvertConfig(to="megatron"))
    other = saved(llama(intermediate_size=64), "other")
    with pytest.raises(ModelError, match="another shape than its config"):
        convert(tmp_path / "megatron", tmp_path / "again", ConvertConfig(like=other))
    deep = saved(llama(num_hidden_layers=3), "deep")
    with pytest.raises(ModelError, match="missing"):
        convert(tmp_path / "megatron", tmp_path / "again", ConvertConfig(like=deep))


def test_memory_is_that_of_a_layers_tensor(saved: Saved, tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 10, "vocab_size": 1024}
    source = saved(llama(**sizes), "in")
    size = sum(value.nbytes for value in tensors(source).values())
    to = ConvertConfig(to="megatron", tensor_parallel=2)
    convert(saved(llama(), "small"), tmp_path / "warm", to)
    assert peak_growth(lambda: convert(source, tmp_path / "megatron", to)) < size / 2
    assert peak_growth(lambda: convert(tmp_path / "megatron", tmp_path / "again", ConvertConfig())) < size / 2
    assert_same(tmp_path / "again", source)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", ["llama", "gpt2"])
def test_megatron_core_loads_it_and_says_the_same(saved: Saved, tmp_path: Path, build: str) -> None:
    pytest.importorskip("megatron.core")
    source = saved(BUILDS[build](), "in")
    convert(source, tmp_path / "megatron", ConvertConfig(to="megatron", tensor_parallel=2, pipeline_parallel=2))
    with one_process(tmp_path / "store"):
        from megatron.core import dist_checkpointing

        model = megatron_model(AutoConfig.from_pretrained(source))
        release = str(tmp_path / "megatron/release")
        loaded = dist_checkpointing.load(model.sharded_state_dict(prefix=""), release)
        model.load_state_dict(loaded, strict=False)
        ids = torch.arange(60)[None]
        mask = torch.triu(torch.ones(60, 60, dtype=torch.bool), 1)[None, None]
        with torch.no_grad():
            found = model(ids, torch.arange(60)[None], mask)[..., :96]
            expected = AutoModelForCausalLM.from_pretrained(source)(ids).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        (tmp_path / "theirs").mkdir()
        dist_checkpointing.save(model.sharded_state_dict(prefix=""), str(tmp_path / "theirs"))
    convert(tmp_path / "theirs", tmp_path / "again", ConvertConfig(like=source))
    assert_same(tmp_path / "again", source)


@contextlib.contextmanager
def one_process(store: Path) -> Iterator[None]:
    """A world of one on the CPU, which megatron-core takes for a GPU unless it is told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "current_device", lambda: "cpu")
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
        from megatron.core import parallel_state
        from megatron.core.tensor_parallel import random

        patch.setattr(random.CudaRNGStatesTracker, "fork", lambda *_: contextlib.nullcontext())
        parallel_state.initialize_model_parallel()
        try:
            yield
        finally:
            parallel_state.destroy_model_parallel()
            torch.distributed.destroy_process_group()


def megatron_model(config: Any) -> Any:
    """megatron-core's model of a config of Hugging Face."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.transformer.transformer_config import TransformerConfig

    old = config.model_type == "gpt2"
    norm = "LayerNorm" if old else "RMSNorm"
    act = torch.nn.functional
    told = TransformerConfig(
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        ffn_hidden_size=4 * config.hidden_size if old else config.intermediate_size,
        num_attention_heads=config.num_attention_heads,
        num_query_groups=config.num_attention_heads if old else config.num_key_value_heads,
        normalization=norm,
        gated_linear_unit=not old,
        activation_func=(lambda x: act.gelu(x, approximate="tanh")) if old else act.silu,
        add_bias_linear=old,
        layernorm_epsilon=config.layer_norm_epsilon if old else config.rms_norm_eps,
        use_cpu_initialization=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        apply_rope_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
    )
    return GPTModel(
        told,
        get_gpt_layer_local_spec(normalization=norm),
        vocab_size=128,
        max_sequence_length=64,
        position_embedding_type="learned_absolute" if old else "rope",
        share_embeddings_and_output_weights=config.tie_word_embeddings,
        parallel_output=False,
    ).eval()
