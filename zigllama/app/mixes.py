"""The mixes of number formats that quantised models are known by (Q4_K_M and the others): which tensor gets which type.

A mix is a base type and, per role of a tensor, exceptions in a notation of its own: alternatives in order, the first
whose condition holds wins, none gives the base type.

    ffn_down="sixteenth:Q5_K robust+!more:Q3_K Q4_K"      in the first sixteenth of the layers Q5_K; else Q3_K if the
                                                          model is `robust` and `more` does not hold; else Q4_K

The conditions are in `CONDITIONS`. A type whose quant blocks do not divide the rows is replaced as `FALLBACK` says.

The tables are facts about llama.cpp's llama-quantize, whose files everybody compares: tests/golden/quantize_mixes.json
has what it chose, tensor by tensor. Left out are its rules for two architectures alone (glm5-next, bailingmoe3). What
this file is not: it reads and writes no file, and it quantises nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zigllama.errors import InvalidArgument, UnknownName
from zigllama.foundation.ggml_types import GGMLType, type_by_name

Rules = tuple[tuple[tuple[str, ...], str], ...]  # (conditions, type), ...


@dataclass(frozen=True)
class Facts:
    """What the rules look at in a model.

    n_attn_v         tensors whose role is attn_v
    gqa              query heads per key/value head in the first layer, 0 where there are no key/value heads
    tied             the token embedding is the output matrix too
    has_importance   an importance matrix is given
    """

    architecture: str
    n_layer: int
    n_attn_v: int
    gqa: int
    n_expert: int
    tied: bool
    has_importance: bool

    @property
    def robust(self) -> bool:
        """True for models that most mixes give fewer bits in ffn_down and attn_output, and more in the output."""
        return self.architecture in ROBUST

    @property
    def shares_values_widely(self) -> bool:
        """True for the shapes of 70B whose value matrices are small beside the others, so bits there cost little."""
        grouped = self.architecture != "llama" or self.gqa > 1
        return (self.architecture, self.n_layer) in SEVENTY_B and grouped


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: the i-th of n of its role (or the layer of the model's n), the facts, and whether it is a
    stack of matrices, one per expert.
    """

    i: int
    n: int
    facts: Facts
    stacked: bool = False


def more_bits(i: int, n: int) -> bool:
    """The layers that matter most: the first and the last eighth, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


CONDITIONS: dict[str, Callable[[Place], bool]] = {
    "first2": lambda p: p.i < 2,
    "first4": lambda p: p.i < 4,
    "sixteenth": lambda p: p.i < p.n // 16,
    "eighth": lambda p: p.i < p.n // 8,
    "middle": lambda p: p.n // 8 <= p.i < 7 * p.n // 8,
    "more": lambda p: more_bits(p.i, p.n),
    "gqa4": lambda p: p.facts.gqa >= 4,
    "experts4": lambda p: p.facts.n_expert >= 4,
    "experts8": lambda p: p.facts.n_expert == 8,
    "stacked": lambda p: p.stacked,
    "robust": lambda p: p.facts.robust,
    "plain": lambda p: not p.facts.has_importance,
}

# --- tensors ----------------------------------------------------------------------------------------------------------

EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
OUTPUT = "output.weight"
# The first part that a name contains tells its role; a name with none of them has the role "other".
ROLES = {
    "attn_qkv.weight": "attn_v",
    "attn_kv_b.weight": "attn_v",
    "attn_v.weight": "attn_v",
    "attn_k.weight": "attn_k",
    "attn_q.weight": "attn_q",
    "attn_output.weight": "attn_output",
    "ffn_up": "ffn_up",
    "ffn_gate": "ffn_gate",
    "ffn_down": "ffn_down",
}
# Matrices that keep their type: small, or looked up rather than multiplied, or known to suffer.
KEPT = ("position_embd.weight", "token_types.weight")
KEPT_PARTS = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight",  # norms; routers
    "altup", "laurel", "per_layer_model_proj",  # Gemma 3n
    "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight", "indexer.q_proj.weight",  # convolutions; indexers
    *(f"time_mix_{x}.weight" for x in ("first", "w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2",
                                       "decay_w1", "decay_w2", "lerp_fused")),  # RWKV
    "attn_rel_b.weight",  # T5
    ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",  # images
    "a.rvq.codebook", "mm.a.code_embd",  # sound
)  # fmt: skip

# What stands in for a type whose quant blocks do not divide a row; where that does not fit either, F16.
FALLBACK = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0", "Q2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
# Types that are useless without importance, but for embedding and output; Q2_K in a file of mix Q2_K_S is one too.
NEEDY = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
# Names of architectures, as files have them: whom those rules are for. Nothing that runs a model looks at them.
ROBUST = {"falcon"}
SEVENTY_B = {("llama", 80), ("qwen2", 80), ("deci", 80), ("olmo", 80), ("jais2", 68)}
SEVENTY_B_VALUES = {"Q3_K": "Q5_K", "Q4_K": "Q5_K"}  # attn_v of these

_LAYER = re.compile(r"blk\.(\d+)\.")


def layer_of(name: str) -> int:
    """The layer in a tensor's name, -1 where there is none."""
    match = _LAYER.match(name)
    return int(match[1]) if match else -1


def order_of(name: str) -> tuple[int, str]:
    """The order in which tensors are counted and written: those of no layer first, then layer by layer, by name."""
    return layer_of(name), name


def role_of(name: str) -> str:
    """A tensor's role: `output`, `embedding`, one of `ROLES`, or `other`."""
    if name == OUTPUT:
        return "output"
    if name in EMBEDDINGS:
        return "embedding"
    return next((role for part, role in ROLES.items() if part in name), "other")


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a mix may change this tensor's type: a matrix of weights (or a stack of them) that is not kept.

    Leading dimensions of 1 do not count: (1, C) is a vector.
    """
    rows = 1
    for n in shape[:-1]:
        rows *= n
    return rows > 1 and name.endswith("weight") and name not in KEPT and not any(part in name for part in KEPT_PARTS)


# --- mixes ------------------------------------------------------------------------------------------------------------


def _rules(text: str) -> Rules:
    """The notation as data; a condition or a type that does not exist is a KeyError or an UnknownName at import."""
    rules = []
    for word in text.split():
        conditions, _, kind = word.rpartition(":")
        names = tuple(conditions.split("+")) if conditions else ()
        for name in names:
            CONDITIONS[name.removeprefix("!")]
        rules.append((names, type_by_name(kind).name))
    return tuple(rules)


@dataclass(frozen=True)
class Mix:
    """A mix: its name, its id in files (general.file_type), the base type, and rules per role.

    counted   ffn_down is placed by counting also in a model of experts (else: by the layer in its name)
    """

    name: str
    file_type: int
    base: GGMLType
    rules: Mapping[str, Rules] = field(default_factory=dict)
    counted: bool = False


def _mix(name: str, file_type: int, base: str, *, counted: bool = False, **rules: str) -> Mix:
    if not counted:  # eight experts share one attention, so that bits there cost little
        rules["attn_v"] = "experts8:Q8_0 " + rules.get("attn_v", "")
        rules["attn_k"] = "experts8:Q8_0 " + rules.get("attn_k", "")
    return Mix(name, file_type, type_by_name(base), {k: _rules(v) for k, v in rules.items()}, counted)


def _low(name: str, file_type: int, base: str, high: str, embedding: str, attn_output: str = "") -> Mix:
    """A mix of about two bits or fewer: `high` for what matters most."""
    return _mix(
        name, file_type, base, counted=True, embedding=embedding, output="Q5_K",
        attn_v=f"gqa4:Q4_K experts4:Q4_K {high}", attn_k="experts8:Q4_K", ffn_down=f"eighth:{high}",
        attn_output=f"experts8:Q5_K {attn_output}",
    )  # fmt: skip


_FOUR = "robust:{0} experts8:Q5_K"  # attn_output of most mixes of three and four bits

MIXES: dict[str, Mix] = {
    m.name: m
    for m in (
        _mix("F32", 0, "F32"),
        _mix("F16", 1, "F16"),
        _mix("BF16", 32, "BF16"),
        _mix("Q8_0", 7, "Q8_0"),
        _mix("Q5_1", 9, "Q5_1"),
        _mix("Q5_0", 8, "Q5_0", ffn_down="!plain+eighth:Q5_1"),
        _mix("Q4_1", 3, "Q4_1"),
        _mix("Q4_0", 2, "Q4_0", ffn_down="!plain+eighth:Q4_1"),
        _mix("Q6_K", 18, "Q6_K"),
        _mix("Q5_K_M", 17, "Q5_K", attn_v="more:Q6_K", ffn_down="more:Q6_K"),
        _mix("Q5_K_S", 16, "Q5_K"),
        _mix(
            "Q4_K_M", 15, "Q4_K", attn_v="more:Q6_K", attn_output=_FOUR.format("Q4_K"),
            ffn_down="robust+sixteenth:Q6_K robust+more:Q5_K robust:Q4_K more:Q6_K",
        ),
        _mix(
            "Q4_K_S", 14, "Q4_K", attn_v="first4:Q5_K", attn_output=_FOUR.format("Q4_K"),
            ffn_down="robust:Q4_K eighth:Q5_K",
        ),
        _mix(
            "Q3_K_L", 13, "Q3_K", attn_v="Q5_K", attn_output="robust:Q4_K experts8:Q3_K Q5_K",
            ffn_down="robust:Q4_K Q5_K",
        ),
        _mix(
            "Q3_K_M", 12, "Q3_K", attn_v="first2:Q5_K Q4_K", attn_output=_FOUR.format("Q3_K") + " Q4_K",
            ffn_down="sixteenth:Q5_K robust+!more:Q3_K Q4_K",
        ),
        _mix("Q3_K_S", 11, "Q3_K", attn_output=_FOUR.format("Q3_K")),
        _mix("Q2_K", 10, "Q2_K", attn_v="gqa4:Q4_K Q3_K", attn_output=_FOUR.format("Q2_K") + " Q3_K", ffn_down="Q3_K"),
        _mix("Q2_K_S", 21, "Q2_K", attn_v="gqa4:Q4_K", ffn_down="eighth:Q4_K"),
        *(
            _mix(name, number, name, attn_v="gqa4:Q5_K", attn_output=_FOUR.format(name), ffn_down="plain+eighth:Q5_K")
            for name, number in (("IQ4_NL", 25), ("IQ4_XS", 30))
        ),
        _mix(
            "IQ3_M", 27, "IQ3_S", attn_v="Q4_K", attn_output=_FOUR.format("IQ3_S") + " Q4_K",
            ffn_down="eighth:Q4_K experts8+more:Q4_K",
        ),
        _mix("IQ3_S", 26, "IQ3_S", attn_v="gqa4:Q4_K", attn_output=_FOUR.format("IQ3_S")),
        _mix(
            "IQ3_XS", 22, "IQ3_S", attn_v="gqa4:Q4_K", attn_k="IQ3_XXS", attn_q="IQ3_XXS",
            attn_output=_FOUR.format("IQ3_S"), ffn_gate="middle:IQ3_XXS", ffn_up="middle:IQ3_XXS",
        ),
        _mix(
            "IQ3_XXS", 23, "IQ3_XXS", embedding="IQ3_S", output="Q5_K", attn_v="gqa4:Q4_K plain:IQ3_S",
            attn_k="IQ2_S", attn_q="IQ2_S", attn_output=_FOUR.format("IQ3_XXS") + " IQ3_S",
            ffn_down="plain+eighth:Q4_K plain:Q3_K",
        ),
        _low("IQ2_M", 29, "IQ2_S", "IQ3_S", "IQ3_S", "IQ3_S"),
        _low("IQ2_S", 28, "IQ2_XS", "IQ3_S", "IQ3_S", "IQ3_S"),
        _low("IQ2_XS", 20, "IQ2_XS", "Q2_K", "Q2_K"),
        _low("IQ2_XXS", 19, "IQ2_XXS", "Q2_K", "Q2_K"),
        _low("IQ1_M", 31, "IQ1_M", "Q2_K", "Q2_K", "IQ2_XXS"),
        _low("IQ1_S", 24, "IQ1_S", "Q2_K", "Q2_K", "IQ2_XXS"),
        _mix("TQ2_0", 37, "TQ2_0", embedding="Q4_K"),
        _mix("TQ1_0", 36, "TQ1_0", embedding="Q4_K"),
        Mix("MXFP4_MOE", 38, type_by_name("MXFP4"), {"output": _rules("Q8_0"), "*": _rules("stacked:MXFP4 Q8_0")}),
    )
}  # fmt: skip
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}


def mix_by_name(name: str) -> Mix:
    """The mix of that name, alias or number (general.file_type), in any case. Raises UnknownName with all names."""
    key = ALIASES.get(name.upper(), name.upper())
    found = MIXES.get(key) or next((m for m in MIXES.values() if name == str(m.file_type)), None)
    if found is None:
        raise UnknownName("mix", name, tuple(sorted([*MIXES, *ALIASES])))
    return found


# --- the choice -------------------------------------------------------------------------------------------------------


class Chooser:
    """Chooses types by the rules of one mix for one model. Tensors have to be asked for in `order_of` their names, each
    once, since some rules count those of a role.
    """

    def __init__(self, mix: Mix, facts: Facts) -> None:
        self.mix, self.facts = mix, facts
        self._seen: Counter[str] = Counter()

    def type_for(self, name: str, shape: tuple[int, ...]) -> GGMLType:
        """The type that the mix gives this tensor; whether it fits is `fitting`'s business. Raises InvalidArgument for
        a feed-forward tensor of a model of experts whose layer its name does not tell.
        """
        if not self.mix.base.is_quantized:
            return self.mix.base
        role = role_of(name)
        if role == "output" or (role == "embedding" and self.facts.tied):
            return self._output(shape[-1])
        rules = self.mix.rules.get("*", self.mix.rules.get(role, ()))
        kind = _first(rules, self._place(role, name, shape))
        if kind is None:
            kind = self.mix.base.name
        if role == "attn_v" and not self.mix.counted and self.facts.shares_values_widely:
            kind = SEVENTY_B_VALUES.get(kind, kind)
        return type_by_name(kind)

    def _output(self, width: int) -> GGMLType:
        base = self.mix.base
        if "*" not in self.mix.rules and (self.facts.robust or width % base.block_size):
            return type_by_name("Q8_0")
        kind = _first(self.mix.rules.get("output", ()), Place(0, 1, self.facts))
        return type_by_name(kind or ("Q8_0" if base.name == "Q8_0" else "Q6_K"))

    def _place(self, role: str, name: str, shape: tuple[int, ...]) -> Place:
        i = self._seen[role]
        self._seen[role] += 1
        n = self.facts.n_attn_v if role == "attn_v" else self.facts.n_layer
        if role.startswith("ffn") and self.facts.n_expert > 1 and not self.mix.counted:
            i = layer_of(name)
            if not 0 <= i < n:
                raise InvalidArgument(f"tensor {name!r}: its name tells no layer from 0 to {n - 1}")
        return Place(i, n, self.facts, stacked=len(shape) > 2 and shape[-3] > 1)


def _first(rules: Rules, place: Place) -> str | None:
    for names, kind in rules:
        if all(CONDITIONS[name.removeprefix("!")](place) is not name.startswith("!") for name in names):
            return kind
    return None


def fitting(kind: GGMLType, width: int) -> GGMLType:
    """`kind`, or what stands in for it in rows of `width` values. Raises InvalidArgument where nothing is known to."""
    if width % kind.block_size == 0:
        return kind
    if kind.name not in FALLBACK and kind.block_size > 32:
        raise InvalidArgument(
            f"{kind.name} has quant blocks of {kind.block_size}, which do not divide a row of {width}, and no type "
            "stands in for it"
        )
    other = type_by_name(FALLBACK.get(kind.name, kind.name))
    return other if width % other.block_size == 0 else type_by_name("F16")


def needs_importance(name: str, kind: GGMLType, mix: Mix) -> bool:
    """Whether this type is useless for this tensor without importance."""
    if name == OUTPUT or name in EMBEDDINGS:
        return False
    return kind.name in NEEDY or (kind.name == "Q2_K" and mix.name == "Q2_K_S")
