from __future__ import annotations

import io
import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from caravan.core.errors import DataError
from caravan.curate.calibrate import (
    FIELDS,
    Proposal,
    Sample,
    _rounded,
    draw,
    lost,
    propose,
    propose_all,
    show,
    write_limits,
)
from caravan.curate.features import Scale
from caravan.curate.rules import LEAST, MOST, RULES, RuleStep, scale
from caravan.recipe.calibration import Calibration
from caravan.recipe.curate import CurateConfig, TextSource
from caravan.recipe.limits import RuleLimits
from tests.curate.conftest import SUBJECTS, sentences, write_jsonl

CONFIG = Calibration(loss=0.05, least=40)


def paragraphs(count: int) -> list[str]:
    """English texts of three to twelve sentences."""
    draw, lines = random.Random(count), sentences(count * 3)
    return [" ".join(draw.sample(lines, draw.randint(3, 12))) for _ in range(count)]


def chinese(count: int) -> list[str]:
    start = "商队把信从一座城市送到另一座城市，没有人知道这条路有多长。"
    places, people = "城山海河湖街村桥", "师医农画歌律兵商"
    draw = random.Random(count)

    def sentence() -> str:
        seen = draw.randint(2, 99)
        return f"那位{draw.choice(people)}人走到{draw.choice(places)}边，看见{seen}只鸟从{draw.choice(places)}上飞过。"

    return [start + "".join(sentence() for _ in range(draw.randint(4, 20))) for _ in range(count)]


def sampled(texts: dict[str, list[str]]) -> dict[str, Sample]:
    samples = {language: Sample(1000) for language in texts}
    for language, some in texts.items():
        samples[language].add(pa.array(some, pa.string()), scale(language, CurateConfig().limits_of(language)))
    return samples


def proposed(texts: dict[str, list[str]], config: Calibration = CONFIG, **more: bool) -> list[Proposal]:
    return propose_all(sampled(texts), config, **more)


def test_the_file_is_what_a_recipe_takes_and_drops_no_more_than_was_asked_for(tmp_path: Path) -> None:
    texts = {"en": paragraphs(300), "zh": chinese(300)}
    output = tmp_path / "limits.yaml"
    write_limits(proposed(texts), CONFIG, output)
    config = CurateConfig.model_validate({"limits": str(output)})
    for language, some in texts.items():
        junk = ["Buy it now!" if language == "en" else "现在就买！", some[0][:60] + "go now " * 300]
        batch = pa.RecordBatch.from_pydict({"language": [language] * 302, "text": some + junk})
        kept = RuleStep(config).judge(batch).reason.is_null().to_numpy(zero_copy_only=False)
        assert not kept[300:].any()
        assert 1 - kept[:300].mean() <= CONFIG.loss
        # Nothing but the loss holds the limits back.
        assert config.limits_of(language).min_characters > RuleLimits().min_characters
    assert config.limits_of("zh").unit == 4


def test_limits_widen_where_the_general_ones_drop_trusted_text() -> None:
    tables = [" ".join(f"{name} {i * 7} {i * 977}" for name in SUBJECTS) for i in range(1000, 1200)]
    (proposal,) = proposed({"en": tables})
    assert proposal.before > 0.9
    assert proposal.after <= CONFIG.loss
    assert proposal.limits["max_digits"] > RuleLimits().max_digits


def test_a_size_is_only_widened() -> None:
    sample = Sample(1000)
    sample.add(pa.array([*paragraphs(100), " ".join(sentences(9000))]), Scale("en"))
    proposal = propose("en", sample.measured, RuleLimits(), CONFIG)
    assert proposal.limits["max_characters"] > 1_000_000
    assert proposal.limits["max_words"] > 200_000
    (short,) = proposed({"en": paragraphs(100)})
    assert short.limits["max_characters"] == RuleLimits().max_characters


def test_the_sample_is_the_same_in_any_order_and_copies_count_once() -> None:
    texts = paragraphs(90)
    whole, parts = Sample(50), Sample(50)
    whole.add(pa.array(texts), Scale("en"))
    for start in (60, 30, 0, 30):
        parts.add(pa.array(texts[start : start + 30]), Scale("en"))
    assert len(whole.hashes) == 50
    np.testing.assert_array_equal(parts.hashes, whole.hashes)
    np.testing.assert_array_equal(parts.measured, whole.measured)


def test_a_language_with_too_little_text_is_left_out_unless_it_was_asked_for() -> None:
    texts = {"en": paragraphs(60), "zh": chinese(39) + chinese(39), "de": []}
    assert [proposal.language for proposal in proposed(texts)] == ["en"]
    with pytest.raises(DataError, match="too little text") as error:
        proposed(texts, every=True)
    assert error.value.expected == "40 different texts in each language, for a loss of 0.05"
    assert error.value.got == "zh 39, de 0"


def test_a_small_loss_needs_more_text() -> None:
    with pytest.raises(DataError) as error:
        proposed({"en": paragraphs(60)}, Calibration(loss=0.001, least=40))
    assert error.value.expected == "999 different texts in a language, for a loss of 0.001"


def test_text_is_drawn_from_any_files_in_languages_stated_or_identified(tmp_path: Path) -> None:
    english, mandarin = paragraphs(20), chinese(20)
    write_jsonl(tmp_path / "mixed.jsonl", [*english, *mandarin, "", "   "])
    write_jsonl(tmp_path / "zh.jsonl", [*mandarin, english[0]])
    sources = [TextSource(path=f"{tmp_path}/mixed.jsonl"), TextSource(path=f"{tmp_path}/{{language}}.jsonl")]
    samples = draw(sources, ["en", "zh", "fi"], 100)
    alone = sampled({"en": english, "zh": mandarin})
    for language, sample in alone.items():
        np.testing.assert_array_equal(samples[language].measured, sample.measured)
    with pytest.raises(DataError, match="too little text") as error:
        propose_all(samples, CONFIG)
    assert error.value.got == "en 20, zh 20, fi 0"
    (tmp_path / "a.parquet").write_bytes(b"no Parquet at all")
    with pytest.raises(DataError, match="cannot be read") as error:
        draw([TextSource(path=f"{tmp_path}/a.parquet")], ["en"], 100)
    assert error.value.where is not None
    assert error.value.where.endswith("a.parquet")


@given(st.floats(0, 1), st.sampled_from(range(len(RULES))))
def test_a_rounded_limit_is_no_tighter_and_close(value: float, index: int) -> None:
    rule, info = RULES[index], FIELDS[index]
    value = value if info.annotation is not int else round(value * 1e6)
    rounded = _rounded(value, info, rule.direction)
    assert (rounded - value) * rule.direction >= -2e-9 * max(1, value)
    assert abs(rounded - value) <= 0.011 * value + 1e-8


def test_counts_are_rounded_to_whole_numbers() -> None:
    whole = RuleLimits.model_fields["min_characters"]
    assert (_rounded(12.7, whole, LEAST), _rounded(12.2, whole, MOST)) == (12, 13)


def test_the_table_shows_every_limit_and_the_file_the_same(tmp_path: Path) -> None:
    (proposal,) = proposed({"en": paragraphs(60)})
    console = Console(width=100, record=True, file=io.StringIO())
    show([proposal], console)
    table = console.export_text()
    write_limits([proposal], CONFIG, tmp_path / "limits.yaml")
    limits = yaml.safe_load((tmp_path / "limits.yaml").read_text())["en"]
    assert limits == proposal.limits
    assert set(limits) == {rule.limit for rule in RULES}
    for rule in RULES:
        assert f"{rule.limit} " in table
    assert str(limits["min_characters"]) in table


def test_what_limits_lose_counts_each_text_once() -> None:
    sample = Sample(10)
    sample.add(pa.array(["x y", "12 12 12 12 12", "the old man and the sea"]), Scale("en"))
    assert lost(sample.measured, RuleLimits()) == pytest.approx(2 / 3)
    assert json.dumps(lost(sample.measured, RuleLimits(min_characters=0, max_digits=1, min_letters=0))) == "0.0"
