from __future__ import annotations

from pathlib import Path

import pytest

from caravan.core.files import read_json, sha256_file
from caravan.core.stage import StageContext
from caravan.recipe.tokenize import TokenizeConfig
from caravan.text.chat import load_tokenizer
from caravan.text.indexed import IndexedDataset
from caravan.tokenize.stage import check, run

CONFIG = TokenizeConfig(vocab_size=600, heldout=0.05)


def hashes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def test_the_stage_leaves_a_tokenizer_packed_text_and_a_report(context: StageContext) -> None:
    counts = run(CONFIG, context)
    assert counts["vocabulary"] == len(load_tokenizer(context.out)) > 268
    names = {path.stem for path in (context.out / "packed").glob("*.idx")}
    assert names == {"en", "de", "zh", "pair-en-zh"} == set(counts["tokens_by_file"])
    heldout = read_json(context.out / "packed" / "heldout.json")
    data = IndexedDataset(context.out / "packed" / "heldout" / "de")
    assert heldout["de"]["documents"] == len(data)
    report = read_json(context.out / "fertility.json")
    # Every held-out document has one more token in its file: the end of the text.
    assert report["de"]["tokenizers"]["caravan"]["tokens"] == data.lengths.sum() - len(data)
    assert counts["bytes_per_token"]["de"] > 1.5
    assert (context.out / "fertility.html").is_file()


def test_a_run_that_was_cut_off_ends_the_same(context: StageContext) -> None:
    counts = run(CONFIG, context)
    before = hashes(context.out)
    for name in ("packed/zh.idx", "packed/pair-en-zh.idx", "fertility.json", "packed/heldout.json"):
        (context.out / name).unlink()
    assert run(CONFIG, context) == counts
    assert hashes(context.out) == before


def test_an_existing_tokenizer_ends_documents_its_own_way_and_others_are_compared(
    context: StageContext, tmp_path: Path
) -> None:
    learnt = run(CONFIG, context)
    theirs = tmp_path / "theirs"
    context.out.rename(theirs)
    context.out.mkdir()
    counts = run(TokenizeConfig(existing="theirs", compare=["theirs"], heldout=0.05), context)
    assert counts["vocabulary"] == learnt["vocabulary"]
    rates = read_json(context.out / "fertility.json")["en"]["tokenizers"]
    assert rates["theirs"] == rates["caravan"]


@pytest.mark.parametrize("key", ["existing", "compare"])
def test_check_names_a_folder_without_a_tokenizer(context: StageContext, key: str) -> None:
    (context.base / "empty").mkdir()
    config = TokenizeConfig.model_validate({key: "empty" if key == "existing" else ["empty"]})
    assert [fault.problem for fault in check(config, context)] == ["no tokenizer in this folder"]
    assert check(CONFIG, context) == []
