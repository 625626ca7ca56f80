"""Who speaks in the sample world: voices that espeak-ng ships, and voices drawn at random for training.

A drawn voice is a variant file (docs/voices.md in the espeak-ng repository): the resonances of a vocal tract, their
widths, the glottal source, the pitch. No held-out voice is drawn: those are shipped ones, made by hand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from caravan.samples.world import Split

DRAWN = 2000
# Below espeak-ng's data. It lists at most 349 of the voices in its own folder, languages included; a variant named by
# its path need not be listed.
_DRAWN_FOLDER = "drawn"
_SHIPPED = (
    "m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f5", "klatt", "klatt2", "klatt4", "klatt6",
    "Alex", "Alicia", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee",
    "Marco", "Mario", "Michael", "Mike", "Nguyen", "Storm", "anika", "announcer", "antonio", "aunty", "belinda",
    "benjamin", "boris", "caleb", "david", "edward2", "fast", "grandma", "grandpa", "gustave", "ian", "iven", "iven2",
    "iven3", "iven4", "john", "kaukovalta", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo", "paul",
    "pedro", "quincy", "rob", "robert", "sandro", "shelby", "travis", "victor", "zac",
)  # fmt: skip
VOICES: dict[Split, tuple[str, ...]] = {
    "train": (*_SHIPPED, *(f"{_DRAWN_FOLDER}{number}" for number in range(DRAWN))),
    "validation": ("m8", "klatt3", "linda"),
    "test": ("f4", "ed", "adam", "steph"),
}


def choose_voice(rng: random.Random, split: Split) -> str:
    """A voice of the split; in training a drawn one every other time."""
    return rng.choice(_SHIPPED if split == "train" and rng.random() < 0.5 else VOICES[split])


def voice_for(data: Path, language: str, voice: str) -> str:
    """What espeak-ng calls a voice in a language; a drawn one is written below `data` where it is not there yet."""
    if not voice.startswith(_DRAWN_FOLDER):
        return f"{language}+{voice}"
    file = data / _DRAWN_FOLDER / voice
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_text(drawn_voice(voice))
    return f"{language}+../../{_DRAWN_FOLDER}/{voice}"


def drawn_voice(name: str) -> str:
    """The variant file of a drawn voice: a pure function of its name."""
    rng = random.Random(name)
    low = rng.uniform(55, 190)
    lines = ["language variant", f"name {name}", f"pitch {low:.0f} {low * rng.uniform(1.2, 1.7):.0f}"]
    if rng.random() < 0.4:
        lines.append(f"klatt {rng.randint(1, 6)}")
    lines += _resonances(rng)
    lines.append(f"voicing {rng.randint(80, 125)}")
    lines.append(f"consonants {rng.randint(50, 120)} {rng.randint(70, 120)}")
    if rng.random() < 0.4:
        tones = (f"{hertz} {rng.randint(20, 220)}" for hertz in (600, 1200, 2000, 3000))
        lines.append(" ".join(("tone 100 255", *tones)))
    if rng.random() < 0.3:
        lines.append(f"echo {rng.randint(30, 150)} {rng.randint(5, 25)}")
    lines.append(f"flutter {rng.randint(0, 8)}")
    lines.append(f"roughness {rng.randint(0, 3)}")
    return "\n".join(lines) + "\n"


def _resonances(rng: random.Random) -> Iterator[str]:
    """Formants in percent of the language's: frequency, strength, width. One tract scales the lower ones alike."""
    tract = rng.uniform(85, 128)
    for number in range(9):
        near = tract if 1 <= number <= 5 else 100
        strength = rng.randint(55, 125) if number <= 3 else rng.randint(20, 120)
        yield f"formant {number} {near * rng.uniform(0.92, 1.08):.0f} {strength} {rng.randint(60, 170)}"


@contextmanager
def espeak_data() -> Iterator[Path]:
    """A folder like espeak-ng's own in which drawn voices can be written; gone afterwards."""
    import espeakng_loader

    shipped = Path(espeakng_loader.get_data_path())
    with TemporaryDirectory(prefix="caravan-voices-") as folder:
        data = Path(folder, "espeak-ng-data")
        # Folders of its own where a path to a drawn voice goes through: a link would lead it astray.
        variants = data / "voices" / "!v"
        variants.mkdir(parents=True)
        for entry in (*shipped.iterdir(), *(shipped / "voices" / "!v").iterdir()):
            if entry.name != "voices":
                (data if entry.parent == shipped else variants).joinpath(entry.name).symlink_to(entry)
        yield data
