"""Vision towers: an image as rows that stand among a language model's tokens. The files are projectors ("mmproj"), of
architecture `clip`, beside the text model's own.

    mlp        LLaVA 1.5 (Liu et al., 2023, arXiv 2310.03744): CLIP's ViT (Radford et al., 2021, arXiv 2103.00020; quick
               GELU, a class token, a norm before the blocks), its last block left out, then two layers with GELU
    idefics3   Idefics3 and SmolVLM (Laurencon et al., 2024, arXiv 2408.12637): SigLIP's ViT (Zhai et al., 2023, arXiv
               2303.15343; GELU by tanh, no class token, a norm after the blocks), s x s patches side by side as one
               row, one product

    x = patches W + position           every patch a row of 3 p^2 numbers: the convolution of the papers is this product
    x = block(x), for every layer      the decoder's own block; every row sees all rows (step.see_to)
    y = projector(x)

What it is not: it decodes and resizes no image (image_processing.py), and runs nothing (inference/vision.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zigllama.errors import BadMetadata, BadTensor, MissingTensor, UnknownName, UnsupportedArchitecture, UnsupportedType
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.linear_algebra.quantization import dequantize
from zigllama.models.config import MAX_LAYERS, HyperParameters
from zigllama.models.gguf import MULTIPLIED
from zigllama.models.tensors import Shape, TensorTable
from zigllama.neural_primitives.activations import activation_named
from zigllama.neural_primitives.arithmetic import add
from zigllama.neural_primitives.normalization import LayerNorm
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.feed_forward import FeedForward
from zigllama.transformers.interfaces import Cache, CacheClass, CacheSpec
from zigllama.transformers.transformer_block import TransformerBlock

PATCHES, POSITIONS, CLASS = "v.patch_embd.weight", "v.position_embd.weight", "v.class_embd"


@dataclass(frozen=True)
class Projector:
    """What differs between the kinds: the GELU that `clip.use_gelu` means, whether there is a class token and a norm
    before or after the blocks, whether images are cut into tiles, and the products with the function between them."""

    gelu: str
    clip: bool
    products: tuple[str, ...]


# clip.projector_type -> how it is
PROJECTORS: Mapping[str, Projector] = {
    "mlp": Projector("gelu", True, ("mm.0", "mm.2")),
    "idefics3": Projector("gelu_tanh", False, ("mm.model.fc",)),
}


@dataclass(frozen=True)
class VisionSpec:
    """A tower. `merge`: so many patches in each direction become one row; `longest`: the longest edge that an image is
    brought to before it is cut into tiles, 0 where it is not cut."""

    kind: str
    image_size: int
    patch_size: int
    n_embd: int
    n_head: int
    n_ff: int
    n_layer: int
    norm_eps: float
    activation: str
    merge: int
    longest: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def projector(self) -> Projector:
        """What the kind brings with it."""
        return PROJECTORS[self.kind]

    @property
    def side(self) -> int:
        """Patches in each direction."""
        return self.image_size // self.patch_size

    @property
    def n_rows(self) -> int:
        """Rows that the blocks see: the patches, and the class token before them."""
        return self.side**2 + self.projector.clip

    @property
    def n_out(self) -> int:
        """Rows that a tile becomes."""
        return (self.side // self.merge) ** 2

    def cache_spec(self) -> CacheSpec:
        """Keys and values of one tile."""
        d = self.n_embd // self.n_head
        return CacheSpec((CacheClass(0, self.n_layer, self.n_head, d, d),), tuple((0, i) for i in range(self.n_layer)))


def vision_spec(metadata: Mapping[str, Any]) -> VisionSpec:
    """The tower that a projector's file says. Raises UnsupportedArchitecture for a file of another kind, UnknownName
    for a projector type, BadMetadata."""
    arch = metadata.get("general.architecture")
    if not isinstance(arch, str) or arch != "clip":  # an array compares element by element
        raise UnsupportedArchitecture(f"{arch} (expected a projector's file, of architecture 'clip')")
    if metadata.get("clip.has_vision_encoder") is not True:
        raise BadMetadata("clip.has_vision_encoder", "is not true: the file has no vision tower")
    kind = metadata.get("clip.projector_type", metadata.get("clip.vision.projector_type", "mlp"))
    if not isinstance(kind, str) or kind not in PROJECTORS:
        raise UnknownName("projector type", str(kind), tuple(PROJECTORS))
    made, h = PROJECTORS[kind], HyperParameters(metadata)
    n_embd, n_head = h.int("vision.embedding_length"), h.int("vision.attention.head_count")
    image, patch = h.int("vision.image_size", high=1 << 12), h.int("vision.patch_size", high=1 << 10)
    merge = 1 if made.clip else h.int("vision.projector.scale_factor", 2, high=64)
    if n_embd % n_head:
        raise BadMetadata("clip.vision.attention.head_count", f"{n_head} does not divide {n_embd} channels")
    if image < patch or image // patch % merge:
        raise BadMetadata("clip.vision.image_size", f"{image} is no multiple of {merge} patches of {patch}")
    return VisionSpec(
        kind=kind,
        image_size=image,
        patch_size=patch,
        n_embd=n_embd,
        n_head=n_head,
        n_ff=h.int("vision.feed_forward_length"),
        n_layer=_depth(metadata, h.int("vision.block_count", high=MAX_LAYERS)),
        norm_eps=h.float("vision.attention.layer_norm_epsilon"),
        activation=made.gelu if metadata.get("clip.use_gelu") is True else "gelu_quick",
        merge=merge,
        longest=0 if made.clip else h.int("vision.preproc_image_size", 4 * image, high=1 << 12),
        mean=_three(metadata, "clip.vision.image_mean"),
        std=_three(metadata, "clip.vision.image_std"),
    )


def _depth(metadata: Mapping[str, Any], blocks: int) -> int:
    """How many blocks are run: all that the file has, unless `feature_layer` says after which the rows are taken.

    LLaVA takes the rows before the last of CLIP's blocks. Files leave that block out, so that theirs are all run;
    llama.cpp leaves out one more where the key is missing.
    """
    wanted = metadata.get("clip.vision.feature_layer")
    if wanted is None:
        return blocks
    layers = np.asarray(wanted).reshape(-1)
    if len(layers) != 1 or layers.dtype.kind not in "iu" or not 1 <= layers[0] <= blocks:
        reason = f"{wanted!r:.100}: one layer from 1 to {blocks} is supported"
        raise BadMetadata("clip.vision.feature_layer", reason)
    return int(layers[0])


def _three(metadata: Mapping[str, Any], key: str) -> tuple[float, ...]:
    try:
        values = () if isinstance(metadata[key], str) else tuple(float(x) for x in metadata[key])
    except (KeyError, TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(np.isfinite(values)) or (key.endswith("std") and min(values) <= 0):
        raise BadMetadata(key, f"{values} are no three numbers for red, green and blue")
    return values


def vision_tensors(spec: VisionSpec, n_out: int) -> TensorTable:
    """The tensors of a tower whose projector gives rows of n_out channels."""
    c, f, p = spec.n_embd, spec.n_ff, spec.patch_size
    required: dict[str, Shape] = {PATCHES: (c, 3, p, p), POSITIONS: (spec.n_rows, c)}
    optional: dict[str, Shape] = {"v.patch_embd.bias": (c,)}
    both = [(f"v.{'pre' if spec.projector.clip else 'post'}_ln", required), ("v.post_ln", optional)]
    for name, where in both:
        where |= {f"{name}.weight": (c,), f"{name}.bias": (c,)}
    if spec.projector.clip:
        required[CLASS] = (c,)
    for i in range(spec.n_layer):
        b = f"v.blk.{i}."
        products = {"attn_q": (c, c), "attn_k": (c, c), "attn_v": (c, c), "attn_out": (c, c)}
        for name, shape in (products | {"ffn_up": (f, c), "ffn_down": (c, f)}).items():
            required |= {f"{b}{name}.weight": shape, f"{b}{name}.bias": shape[:1]}
        for name in ("ln1", "ln2"):
            required |= {f"{b}{name}.weight": (c,), f"{b}{name}.bias": (c,)}
    width = c * spec.merge**2
    for name in spec.projector.products:
        required[f"{name}.weight"] = (n_out, width)
        (required if spec.projector.clip else optional)[f"{name}.bias"] = (n_out,)
        width = n_out
    return TensorTable(required, {k: v for k, v in optional.items() if k not in required})


def names_in(tensors: Mapping[str, Shape], spec: VisionSpec) -> dict[str, str]:
    """Name as it is used here -> name in the file.

    The first files called the feed-forward's first matrix ffn_down and its second ffn_up. Which is meant shows in the
    shape; where n_ff is n_embd it does not, and BadTensor says so.
    """
    names = {n: n for n in tensors}
    first = tensors.get("v.blk.0.ffn_down.weight")
    if first is None:
        raise MissingTensor("v.blk.0.ffn_down.weight", (spec.n_embd, spec.n_ff))
    if spec.n_ff == spec.n_embd:
        raise BadTensor(
            "v.blk.0.ffn_down.weight", f"n_ff is n_embd, {spec.n_ff}: whether it is first or second is open"
        )
    if first == (spec.n_ff, spec.n_embd):
        swap = {"ffn_down": "ffn_up", "ffn_up": "ffn_down"}
        names = {re.sub(r"\bffn_(?:up|down)\b", lambda m: swap[m[0]], n): n for n in tensors}
    return names


def checked(metadata: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[VisionSpec, dict[str, str], set[str]]:
    """The tower of a file with these tensors, their names as `names_in` has them, and those that are not used.
    Raises what `vision_spec` does; MissingTensor, TensorShapeMismatch, BadTensor."""
    spec = vision_spec(metadata)
    names = names_in(shapes, spec)
    last = f"{spec.projector.products[-1]}.weight"
    if last not in shapes:
        raise MissingTensor(last)
    found = {ours: shapes[theirs] for ours, theirs in names.items()}
    beyond = [n for n in found if (m := re.match(r"v\.blk\.(\d+)\.", n)) and int(m[1]) >= spec.n_layer]
    vision_tensors(spec, shapes[last][0]).check(found, beyond)
    return spec, names, {*beyond, *(("v.post_ln.weight", "v.post_ln.bias") if spec.projector.clip else ())}


class VisionLoader:
    """A projector's file, checked; `tower()` gives the model. Raises the ModelFileErrors."""

    def __init__(self, path: StrPath) -> None:
        self.reader = GGUFReader(path)
        try:
            shapes = {n: tuple(t.shape) for n, t in self.reader.tensors.items()}
            self.spec, self.names, self._ignored = checked(self.reader.metadata, shapes)
            self.n_out = shapes[f"{self.spec.projector.products[-1]}.weight"][0]
            for t in self.reader.tensors.values():
                if t.type.name not in (MULTIPLIED if len(t.shape) > 1 else ("F32", "F16", "BF16")):
                    raise UnsupportedType(t.name, t.type.name)
        except BaseException:
            self.reader.close()
            raise

    def weights(self) -> dict[str, Any]:
        """Matrices as `Weight`, the patches' as (C, 3 p^2); positions and vectors as float32."""
        out: dict[str, Any] = {}
        for name, theirs in self.names.items():
            t, data = self.reader.tensor(theirs), self.reader.tensor_bytes(theirs)
            if name in self._ignored:
                continue
            if len(t.shape) == 1 or name == POSITIONS:
                out[name] = dequantize(data, t.type.name).reshape(t.shape)
            elif name == PATCHES:  # its quant blocks, if any, are no rows of 3 p^2
                out[name] = Weight.from_array(dequantize(data, t.type.name).reshape(t.shape[0], -1), name)
            else:
                out[name] = Weight(t.type, t.shape[0], t.shape[1], data, name)
        return out

    def tower(self) -> VisionTower:
        """The tower, with weights over the mapped file."""
        return VisionTower(self.spec, self.weights())

    def close(self) -> None:
        """Close the file."""
        self.reader.close()


class VisionTower:
    """A tower with its weights."""

    def __init__(self, spec: VisionSpec, weights: Mapping[str, Any]) -> None:
        self.spec, self.weights = spec, weights
        self.blocks = [_block(spec, i, weights) for i in range(spec.n_layer)]
        norm = "v.pre_ln" if spec.projector.clip else "v.post_ln"
        self.norm = LayerNorm(weights[f"{norm}.weight"], weights[f"{norm}.bias"], spec.norm_eps)
        self.table: F32 = np.array(weights[POSITIONS], np.float32)  # what is added to the patches' products
        first = int(spec.projector.clip)
        if (bias := weights.get("v.patch_embd.bias")) is not None:
            self.table[first:] += bias
        if first:
            self.table[0] += weights[CLASS]

    def patches(self, pixels: F32) -> F32:
        """A tile (3, S, S) -> (rows, 3 p^2): each patch a row; the class token's is zeros, so that its product is."""
        s, p = self.spec.side, self.spec.patch_size
        cut = pixels[:, : s * p, : s * p].reshape(3, s, p, s, p).transpose(1, 3, 0, 2, 4).reshape(s * s, -1)
        rows = np.zeros((self.spec.n_rows, cut.shape[1]), np.float32)
        rows[int(self.spec.projector.clip) :] = cut
        return rows

    def features(self, patches: Any, table: Any, step: Step, cache: Cache) -> Any:
        """The rows after the last block that is run: patches (T, 3 p^2), table (T, C) -> (T, C)"""
        x = add(linear(patches, self.weights[PATCHES]), table)
        if self.spec.projector.clip:
            x = self.norm(x)
        for block in self.blocks:
            x = block(x, step, cache)
        return x if self.spec.projector.clip else self.norm(x)

    def merged(self, x: F32) -> F32:
        """Without the class token; s x s neighbours side by side, row by row: (T, C) -> (N, s^2 C)

        LLaVA takes the rows of the patches alone. The class token is the first of them, as in CLIP; llama.cpp puts it
        last, but numbers positions and takes rows as if it were the first: the first patch's is left out there.
        """
        x = x[int(self.spec.projector.clip) :]
        s, n = self.spec.merge, self.spec.side // self.spec.merge
        return np.ascontiguousarray(x.reshape(n, s, n, s, -1).transpose(0, 2, 1, 3, 4).reshape(n * n, -1))

    def project(self, x: Any) -> Any:
        """The projector: (N, s^2 C) -> (N, C of the text model)"""
        for i, name in enumerate(self.spec.projector.products):
            x = activation_named("gelu")[0](x) if i else x
            x = linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        return x


def _block(spec: VisionSpec, i: int, weights: Mapping[str, Any]) -> TransformerBlock:
    def w(name: str) -> Any:
        return weights[f"v.blk.{i}.{name}"]

    def norm(name: str) -> LayerNorm:
        return LayerNorm(w(f"{name}.weight"), w(f"{name}.bias"), spec.norm_eps)

    attention = MultiHeadAttention.named(
        w,
        out="attn_out",
        heads=spec.n_head,
        kv_heads=spec.n_head,
        scale=float((spec.n_embd // spec.n_head) ** -0.5),
        rope=None,
        cache_class=0,
        layer=i,
    )
    return TransformerBlock(norm("ln1"), attention, norm("ln2"), FeedForward.named(w, spec.activation))
