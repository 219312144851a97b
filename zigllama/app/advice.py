"""Whether an estimate fits a machine, and if not, what would: the advice of `zigllama estimate`.

    comfortable   at most half of the memory: room for the system, other programs and a longer context
    feasible      all but a reserve of 2 GB (or an eighth, where that is less), which the system needs
    too large     more; then the widest number formats are named that bring it down to feasible, if any do

The usual advice for 16 GB (7B in Q4_0 comfortable, 13B feasible, 30B and 65B for a server or in IQ2 or IQ3) comes out
of these sums for 7B, 13B and 30B; 30B needs IQ2. Of 65B it is wrong: 65.3e9 weights of 1.56 bits, the fewest there are
for a trained model, are 12.8 GB, and with the cache of 2,048 positions 18.2 GB.

What it is not: a measurement, or a promise: what other programs take changes by the minute.
"""

from __future__ import annotations

import re

from zigllama.app.console import size
from zigllama.app.estimate import Estimate, estimate
from zigllama.errors import InvalidArgument, ShapeError
from zigllama.models.model_config import ModelConfig

# Formats that a trained model may be brought into, from wide to narrow.
NARROWER = (
    "Q8_0", "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "IQ3_S", "IQ3_XXS",
    "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S",
)  # fmt: skip
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def usable(memory: int) -> int:
    """What of `memory` bytes a model may take."""
    return memory - min(2 * 10**9, memory // 8)


def verdict(total: int, memory: int) -> str:
    """comfortable, feasible, or too large."""
    return "comfortable" if total <= memory // 2 else "feasible" if total <= usable(memory) else "too large"


def advice(found: Estimate, memory: int, config: ModelConfig | None = None) -> str:
    """One line on `found` in `memory` bytes; of a preset that is too large it names the widest format that is not."""
    word = verdict(found.total, memory)
    line = f"{size(found.total)} of {size(memory)}: {word}"
    if word != "too large":
        return line
    need = found.total + min(2 * 10**9, found.total // 7)
    line += f"; a machine with {size(need)} runs it"
    if config is None:
        return line
    for name in NARROWER:
        try:
            other = estimate(config, found.n_ctx, found.cache_type, type_name=name)
        except ShapeError:  # rows that are no whole number of its superblocks
            continue
        if other.weights < found.weights and other.total <= usable(memory):
            return f"{line}, and here it is feasible as {name}, {size(other.total)}"
    return f"{line}; no number format brings it down to {size(usable(memory))} with {found.n_ctx:,} positions"


def memory_from(text: str) -> int:
    """Bytes of "16G", "16 GB", "16000M" or a number. Raises InvalidArgument.

    >>> memory_from("16GB")
    16000000000
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    if match is None or not float(match[1]) > 0:
        raise InvalidArgument(f"memory {text!r}: expected a number of bytes, as 16G or 16 GB")
    return int(float(match[1]) * UNITS[match[2].upper()])
