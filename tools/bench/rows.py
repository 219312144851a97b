"""The rows of the table: which model, which test, and what is asked of it.

    floor    what the ratio to the best peer must reach (of times: must not exceed)
    goal     what would be good: a ratio too, or a share of one of the machine's ceilings

A row's name is model and test: `1.1b-q4_0 pp512`. What is measured how stands in pairs.py and single.py. Rows that
belong together have a name too, see GROUPS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    """One line of the table. With `n_seq` a batch of so many sequences; `special` rows are measured by single.py.

    ceiling    what `goal` is a share of: "" (it is a ratio), "read", "int8", "f32"
    peers      names of those that count, as they begin; () means all
    flags      further flags of `zigllama bench`
    """

    model: str
    test: str
    floor: float
    goal: float
    ceiling: str = ""
    n_prompt: int = 0
    n_gen: int = 0
    n_depth: int = 0
    n_seq: int = 0
    n_threads: int = 2
    repetitions: int = 3
    peers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    special: str = ""

    @property
    def name(self) -> str:
        """Model and test."""
        return f"{self.model} {self.test}"

    @property
    def memory_bound(self) -> bool:
        """Whether the memory's speed decides: then pairs whose probes differ are dropped."""
        return not self.special and self.n_gen > 0


def _prefill(model: str, floor: float, goal: float, ceiling: str = "") -> Row:
    return Row(model, "pp512", floor, goal, ceiling, n_prompt=512, repetitions=_repetitions(model))


def _repetitions(model: str) -> int:
    """How often a run repeats its test. What takes seconds needs no mean of three; and the less time lies between two
    probes, the fewer pairs are dropped because the memory's speed has changed."""
    return 1 if model.startswith(("1.1b", "7b")) else 3


def _decode(
    model: str,
    floor: float,
    goal: float,
    ceiling: str = "",
    *,
    n_gen: int = 64,
    n_depth: int = 0,
    n_threads: int = 2,
) -> Row:
    repetitions = _repetitions(model)
    test = f"tg{n_gen}" + (f" @ d{n_depth}" if n_depth else "") + (", 1 thread" if n_threads == 1 else "")
    return Row(model, test, floor, goal, ceiling, 0, n_gen, n_depth, 0, n_threads, repetitions)


def _family(model: str, repetitions: int = 2) -> tuple[Row, Row]:
    """Prefill and decode beside llama.cpp, which is the peer that runs all of these."""
    prefill = Row(model, "pp512", 1.0, 1.25, n_prompt=512, repetitions=repetitions, peers=("llama.cpp",))
    decode = Row(model, "tg64", 1.0, 1.25, n_gen=64, repetitions=repetitions, peers=("llama.cpp",))
    return prefill, decode


def _batch(model: str, n_seq: int) -> Row:
    return Row(model, f"batch {n_seq}", 1.5, 2.0, n_prompt=32, n_gen=32, n_seq=n_seq)


# Types whose panels keep the file's bytes (ckernels/kernels/formats_wide.h), one a model (make_shape.py).
WIDE = ("iq4_xs", "iq4_nl", "q2_k", "q3_k", "iq3_s", "iq2_xs")

# A shape of each kind of architecture, about 500M (shapes.py): parallel residual with two norms, with one, with one key
# and value for all heads; ALiBi; learned positions; experts, with a shared one too; a scan per channel, and per head.
FAMILIES = (
    "gptneox-410m", "phi2-410m", "falcon-390m", "bloom-560m", "gpt2-355m", "mixtral-520m", "qwen2moe-490m",
    "mamba-370m", "mamba2-370m",
)  # fmt: skip
# The types that no other row has, so that there is a table of all. At least the peer's speed is asked of them.
OTHERS = ("q5_1", "iq1_s", "iq1_m", "iq2_xxs", "iq2_s", "iq3_xxs", "bf16", "tq1_0", "tq2_0")
# Types that ik_llama.cpp does not have (its ggml.h).
LLAMA_ONLY = ("tq1_0", "tq2_0")
OTHER_ROWS = tuple(
    replace(make(f"1.1b-{t}", 1.0, 1.3), peers=("llama.cpp",) if t in LLAMA_ONLY else ())
    for make in (_prefill, _decode)
    for t in OTHERS
)
FAMILY_ROWS = tuple(row for name in FAMILIES for row in _family(f"{name}-q4_0"))

ROWS = (
    _prefill("smollm2", 1.25, 1.6),
    _prefill("gemma3-270m", 1.25, 1.6),
    *(_prefill(f"1.1b-{t}", 1.4, 0.60, "int8") for t in ("q4_0", "q5_0", "q8_0")),
    *(_prefill(f"1.1b-{t}", 1.4, 0.52, "int8") for t in ("q4_1", "q4_k_m", "q6_k")),
    _prefill("1.1b-q5_k_m", 1.25, 0.52, "int8"),
    *(_prefill(f"1.1b-{t}", 1.3, 0.45, "int8") for t in WIDE),
    Row("1.1b-f16", "pp512, f32", 1.05, 0.85, "f32", n_prompt=512, peers=("llama.cpp",)),
    Row("1.1b-f16", "pp512, bf16", 0.95, 1.0, n_prompt=512, peers=("ik",), flags=("--float-compute", "bf16")),
    _decode("smollm2", 1.25, 1.4, n_gen=128),
    _decode("gemma3-270m", 1.0, 1.05, n_gen=128),
    *(_decode(f"1.1b-{t}", 1.05, 0.92, "read") for t in ("q4_0", "q4_1", "q5_0", "q8_0", "q4_k_m", "q5_k_m", "q6_k")),
    *(_decode(f"1.1b-{t}", 1.05, 1.3) for t in WIDE),
    _decode("7b-q4_0", 1.05, 0.92, "read", n_gen=32),
    _decode("1.1b-f16", 0.97, 0.95, "read"),
    *(_decode(f"1.1b-{t}", 1.15, 1.3, n_threads=1) for t in ("q4_0", "q4_k_m")),
    _decode("1.1b-q8_0", 1.08, 1.15, n_threads=1),
    _decode("1.1b-q4_0", 1.2, 1.35, n_depth=2048),
    _decode("smollm2", 1.5, 1.8, n_depth=2048),
    *(_batch(f"1.1b-{t}", n) for t in ("q4_0", "q4_k_m") for n in (4, 8, 16)),
    *(_batch("smollm2", n) for n in (8, 16)),
    Row("smollm2", "batch growth", 1.0, 1.0, n_prompt=32, n_gen=32, special="growth"),
    Row("smollm2", "python share", 0.05, 0.02, special="python"),
    Row("smollm2", "start", 0.65, 0.5, special="start"),
    Row("smollm2", "memory", 64.0, 48.0, special="memory"),
    Row("1.1b-q4_0", "memory", 1.1, 1.05, special="memory"),
    *FAMILY_ROWS,
    *OTHER_ROWS,
)
GROUPS = {"families": FAMILY_ROWS, "others": OTHER_ROWS}


def choose(only: list[str] | None) -> list[Row]:
    """Rows by name, by a part of it ("smollm2", "pp512", "1.1b-q4_0 tg"), or by their group's. Raises SystemExit for a
    name of none."""
    if not only:
        return list(ROWS)
    found: list[Row] = []
    for word in only:
        exact = GROUPS.get(word) or [row for row in ROWS if row.name == word]
        matching = exact or [row for row in ROWS if word in row.name]
        if not matching:
            raise SystemExit(f"no row is called {word!r}; these are:\n  " + "\n  ".join(row.name for row in ROWS))
        found += [row for row in matching if row not in found]
    return found
