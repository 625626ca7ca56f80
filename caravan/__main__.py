"""The command line: choose the command, parse, then import what it needs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

# Before any library that starts threads: with one busy core, threads that spin make two slower than one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Between the short steps of a small model a thread spins so long before it sleeps: a quarter more tokens a second.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
# numpy's own threads spin after every small product and take the cores from torch's: a third of the encoders' speed.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from caravan.core.errors import CaravanError
from caravan.core.log import console, setup_logging
from caravan.core.memory import keep_freed_memory

if TYPE_CHECKING:
    from caravan.recipe.curate import TextSource

app = typer.Typer(
    name="caravan",
    help="Give an open language model new languages, ears and eyes: from raw text to an assistant on a laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()

curate = typer.Typer(help="What curation learns from trusted text.", no_args_is_help=True)
app.add_typer(curate, name="curate")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="recipe file (YAML)")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[STAGE ...] [key=value ...]")]


def split_words(words: list[str] | None) -> tuple[list[str], list[str]]:
    """Stage names, and overrides, which have an `=`."""
    words = words or []
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


@app.command()
def run(recipe: RecipePath, words: Words = None) -> None:
    """Walk the road of a recipe, or the named stages of it; done stages are skipped, killed ones resumed."""
    from caravan.recipe.load import load_recipe
    from caravan.report import final_table
    from caravan.road import Walk, walked

    keep_freed_memory()
    stages, overrides = split_words(words)
    loaded = load_recipe(recipe, overrides)
    if stages == ["serve"]:
        from caravan.recipe.serve import ServeConfig
        from caravan.serve.stage import run_server

        run_server(Walk(loaded).folder, loaded.serve or ServeConfig())
        return
    results = []
    for result in walked(loaded, stages):
        results.append(result)
        state = f"{result.seconds:.0f} s" if result.fresh else "up to date"
        console.print(f"[green]✓[/] {result.stage.name}: {result.artifact.path} ({state})", highlight=False)
    final_table(results, out)


@app.command("lr-probe")
def lr_probe(
    recipe: RecipePath,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
    lowest: Annotated[float | None, typer.Option(help="rate of the first step; default: 1e-6")] = None,
    highest: Annotated[float | None, typer.Option(help="rate of the last step; default: 1")] = None,
    steps: Annotated[int | None, typer.Option(help="steps from one to the other; default: 200")] = None,
) -> None:
    """Raise the learning rate of a recipe's pretraining until the gradient norm spikes, and propose one below.

    The stages before pretrain must be done. Nothing is kept.
    """
    from caravan.recipe.load import from_options, load_recipe
    from caravan.recipe.probe import ProbeConfig
    from caravan.road import Walk

    loaded = load_recipe(recipe, overrides or [])
    config = from_options(ProbeConfig, {"lowest": lowest, "highest": highest, "steps": steps})
    walk = Walk(loaded)
    (stage,) = walk.choose(["pretrain"])
    context = walk.context(stage, walk.inputs(stage), walk.folder / stage.name)
    from caravan.train.probe import probe

    assert loaded.pretrain is not None
    found = probe(config, loaded.pretrain, context)
    spike = f"the gradient norm spikes at {found.spiked:.2g}" if found.spiked else "the gradient norm never spikes"
    out.print(f"{spike} (step {found.steps}); pretrain.learning_rate={found.proposed:g}", highlight=False)


@app.command()
def validate(
    target: Annotated[
        Path, typer.Argument(metavar="RECIPE | DATA", help="recipe (.yaml), or a file or folder of data")
    ],
    words: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
    limit: Annotated[int, typer.Option(min=1, help="faults that are shown; all are counted")] = 20,
) -> None:
    """Check a recipe and a sample of every data set in it, or all rows of a data set; nothing is run.

    For data, key=value are settings of its source: `language=en media=images format=llava`.
    """
    from caravan.validation import validate_data, validate_recipe

    look = validate_recipe if target.suffix in (".yaml", ".yml") else validate_data
    if not look(target, split_words(words)[1], out, limit):
        raise typer.Exit(1)


@app.command()
def road() -> None:
    """Show the stages, what each reads and what it writes."""
    from caravan.road import ROAD

    table = Table("stage", "reads", "writes", "in words", title="the road")
    for stage in ROAD:
        reads = ", ".join([*stage.reads, *(f"({kind})" for kind in stage.wants)]) or "your data"
        table.add_row(stage.name, reads, stage.writes, stage.words)
    table.add_row("serve", "gguf", "", "OpenAI-compatible API and web chat")
    out.print(table)


@app.command()
def schema() -> None:
    """Print the JSON schema of a recipe, for editors."""
    from caravan.recipe.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), ensure_ascii=False, indent=2))


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="an artifact or a run folder")],
    reason: Annotated[str | None, typer.Option(help="of a corpus: text dropped for this reason")] = None,
    step: Annotated[str | None, typer.Option(help="... by this step")] = None,
    language: Annotated[str | None, typer.Option(help="... in this language; de-en: pairs of these two")] = None,
    kept: Annotated[bool, typer.Option("--kept", help="text that was kept instead")] = False,
    pairs: Annotated[bool, typer.Option("--pairs", help="parallel pairs instead of documents")] = False,
    count: Annotated[
        int | None, typer.Option("-n", min=1, help="so many of each reason; kept: of each language; default: 5")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines with whole texts")] = False,
) -> None:
    """Say what an artifact holds, in words, with a sample of it; of a corpus, show what was dropped and why.

    `caravan inspect runs/x/curate --reason symbols --language de -n 10`
    """
    from caravan.inspection import describe, show_rows

    if not (reason or step or language or kept or pairs or count or as_json):
        describe(path, out)
        return
    from caravan.curate.browse import Choice

    choice = Choice(reason, step, language, kept, pairs or "-" in (language or ""))
    show_rows(path, choice, count or 5, out, as_json=as_json)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="folder of a Hugging Face model, or of a LoRA adapter of peft")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the GGUF files")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
    types: Annotated[str | None, typer.Option(help="files to write, as q4_k_m,q8_0")] = None,
) -> None:
    """Write a model as GGUF files for llama.cpp, and see that they say what torch says.

    Settings are those of a recipe's section `export`: `prompts=4 threads=8`.
    """
    from caravan.export.stage import export_folder
    from caravan.recipe.export import ExportConfig
    from caravan.recipe.load import load_section
    from caravan.report import export_table

    given = [f"types=[{types}]"] if types else []
    artifact = export_folder(load_section(ExportConfig, [*(settings or []), *given]), model, output)
    out.print(export_table(artifact.counts))
    console.print(f"[green]✓[/] {artifact.path}", highlight=False)


@app.command()
def chat(
    model: Annotated[Path, typer.Argument(help="run folder, export folder or .gguf file")],
    text: Annotated[list[str] | None, typer.Argument(help="what to say; nothing starts a conversation")] = None,
    audio: Annotated[list[Path] | None, typer.Option(help="a clip to hear")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="a picture to look at")] = None,
    mmproj: Annotated[Path | None, typer.Option(help="projector file, where MODEL is a .gguf file")] = None,
) -> None:
    """Talk to a model in the terminal: one turn, or a conversation."""
    from caravan.serve.chat import chat as talk

    talk(model, text=" ".join(text or []), audios=audio or [], images=image or [], mmproj=mmproj)


@app.command()
def serve(
    model: Annotated[
        Path, typer.Argument(help="run folder, export folder or .gguf file; with upstream=URL, a name there")
    ],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on; default: loopback only")] = None,
    port: Annotated[int | None, typer.Option(help="port; 0 takes a free one")] = None,
    mmproj: Annotated[Path | None, typer.Option(help="projector file, where MODEL is a .gguf file")] = None,
    adapter: Annotated[str | None, typer.Option(help="a LoRA adapter of MODEL: a .gguf file, or its folder")] = None,
    compare: Annotated[str | None, typer.Option(help="a second model, compared with the first in the web chat")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="written with the URL once the server answers")] = None,
) -> None:
    """Serve a model: OpenAI-compatible API and web chat with microphone and pictures.

    Settings are those of a recipe's section `serve`: `parallel=4 limits.seconds=60`.
    """
    from caravan.recipe.load import load_section
    from caravan.recipe.serve import ServeConfig
    from caravan.serve.stage import run_server

    options = {"host": host, "port": port, "adapter": adapter, "compare": compare}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    config = load_section(ServeConfig, [*(settings or []), *given])
    run_server(model, config, mmproj=mmproj, ready_file=ready_file)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="FROM", help="a model, a delta or an adapter; or hf://owner/name")],
    target: Annotated[str, typer.Argument(metavar="TO", help="folder to write, or hf://owner/name")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]")] = None,
    to: Annotated[str, typer.Option(help="layout to write; hf: a Hugging Face folder")] = "hf",
) -> None:
    """Write a model in another layout, a tensor at a time; what FROM is in is seen from its files.

    `caravan convert adapter merged base=llama` · `caravan convert llama split --to megatron tensor_parallel=8`
    """
    from caravan.recipe.convert import ConvertConfig
    from caravan.recipe.load import load_section

    config = load_section(ConvertConfig, [*(settings or []), f"to={to}"])
    from caravan.convert.run import convert_named

    console.print(f"[green]✓[/] {convert_named(source, target, config)}", highlight=False)


Texts = Annotated[
    list[str],
    typer.Argument(metavar="TEXT...", help="Parquet, JSONL, text or web archives; `{language}` stands for each"),
]
Column = Annotated[str, typer.Option(help="column or JSON field of the text")]
LanguageColumn = Annotated[str | None, typer.Option(help="column of each text's language")]
Languages = Annotated[str | None, typer.Option(help="languages wanted, as en,de; default: all 18")]


def text_sources(paths: list[str], column: str, language_column: str | None) -> list[TextSource]:
    """Text named on the command line, as sources of a recipe."""
    from caravan.recipe.curate import TextSource
    from caravan.recipe.load import from_options

    columns = {"text": column, "language": language_column}
    return [from_options(TextSource, {"path": path, "columns": columns}) for path in paths]


def wanted_languages(names: str | None) -> list[str]:
    """Languages named on the command line, separated by commas."""
    from caravan.records import LANGUAGES

    return [name.strip() for name in names.split(",")] if names else list(LANGUAGES)


@curate.command()
def calibrate(
    text: Texts,
    output: Annotated[Path, typer.Option("--output", "-o", help="YAML file for `curate.limits` of a recipe")],
    loss: Annotated[float | None, typer.Option(help="share of the text that all rules together may drop")] = None,
    text_column: Column = "text",
    language_column: LanguageColumn = None,
    languages: Languages = None,
    most: Annotated[int | None, typer.Option(help="most texts of a language that are measured")] = None,
    least: Annotated[int | None, typer.Option(help="a language with fewer texts is left out")] = None,
) -> None:
    """Propose limits of the rules by language from trusted text, for `curate.limits` of a recipe."""
    from caravan.curate.stage import need_libraries
    from caravan.recipe.calibration import Calibration
    from caravan.recipe.load import from_options

    need_libraries()
    config = from_options(Calibration, {"loss": loss, "most": most, "least": least})
    sources = text_sources(text, text_column, language_column)
    from caravan.curate.calibrate import draw, propose_all, show, write_limits

    samples = draw(sources, wanted_languages(languages), config.most)
    proposals = propose_all(samples, config, every=languages is not None)
    write_limits(proposals, config, output)
    show(proposals, out)
    console.print(f"[green]✓[/] {output}", highlight=False)


@curate.command("train-lm")
def train_lm(
    text: Texts,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the models")],
    text_column: Column = "text",
    language_column: LanguageColumn = None,
    languages: Languages = None,
    order: Annotated[int | None, typer.Option(help="words in the longest n-grams")] = None,
    vocabulary: Annotated[int | None, typer.Option(help="most words of a language")] = None,
    megabytes: Annotated[float | None, typer.Option(help="most text of a language")] = None,
    held_out: Annotated[float | None, typer.Option(help="share of texts held out for thresholds")] = None,
    arpa: Annotated[str | None, typer.Option(help="ready models, as `lm/{language}.arpa.gz`: not trained")] = None,
) -> None:
    """Train n-gram models of trusted text, one a language, for `curate.perplexity` of a recipe."""
    from caravan.curate.stage import need_libraries
    from caravan.recipe.learned import NgramTraining
    from caravan.recipe.load import from_options

    need_libraries()
    given = {"order": order, "vocabulary": vocabulary, "megabytes": megabytes, "held_out": held_out, "arpa": arpa}
    config = from_options(NgramTraining, given)
    sources = text_sources(text, text_column, language_column)
    from caravan.curate.ngrams.training import train_models

    artifact = train_models(sources, wanted_languages(languages), config, output)
    console.print(f"[green]✓[/] {artifact.path}", highlight=False)


@curate.command("train-classifier")
def train_classifier(
    text: Texts,
    junk: Annotated[
        list[str], typer.Option(help="what trusted text is told from, such as a raw crawl; may be repeated")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the classifiers")],
    text_column: Column = "text",
    language_column: LanguageColumn = None,
    languages: Languages = None,
    megabytes: Annotated[float | None, typer.Option(help="most text of a language and kind")] = None,
    held_out: Annotated[float | None, typer.Option(help="share of texts held out for thresholds")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the text")] = None,
) -> None:
    """Train classifiers of trusted text and junk, one a language, for `curate.quality` of a recipe."""
    from caravan.curate.stage import need_libraries
    from caravan.recipe.learned import ClassifierTraining
    from caravan.recipe.load import from_options

    need_libraries()
    config = from_options(ClassifierTraining, {"megabytes": megabytes, "held_out": held_out, "epochs": epochs})
    trusted, other = (text_sources(paths, text_column, language_column) for paths in (text, junk))
    from caravan.curate.classifier.training import train_classifiers

    artifact = train_classifiers(trusted, other, wanted_languages(languages), config, output)
    console.print(f"[green]✓[/] {artifact.path}", highlight=False)


@app.command()
def doctor() -> None:
    """Say what this machine has, what is missing, and the line that installs it."""
    from caravan.doctor import examine

    examine(out)


def main() -> None:
    """Run the command line.

    Exit status: 0 done, 1 failed, 2 wrong usage or recipe, 130 interrupted (what was done is saved).
    """
    setup_logging()
    try:
        app()
    except SystemExit as leave:
        if leave.code == 130:
            console.print("interrupted; the same command goes on from the last saved point")
        raise
    except CaravanError as error:
        console.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
