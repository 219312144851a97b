"""The converted projectors through llama.cpp's own vision library (mtmd), where it is installed: the same rows, except
for LLaVA's class token.

Images are of sizes that need no resizing, in which the two libraries differ (Pillow is what the models' processors
use).
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from multi_modal_models import Looker
from random_weights import Stream
from small_vocabularies import byte_alphabet

from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_writer import TensorData, write
from zigllama.foundation.runtime import Step
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.inference.vision import Vision
from zigllama.models.conversion.convert import convert
from zigllama.models.image_processing import process
from zigllama.models.vocabulary import NORMAL, PREFIX

F32 = npt.NDArray[np.float32]
# llama.cpp reads its GELUs from a table of half precision, and has the one by tanh where CLIP and the projector have
# erf's: 2^-11 and up to 5e-4 of a value of size one, in each of up to 3 layers and the projector, on rows of size 6.
ATOL = 2e-2


def peer_rows(llama_cpp: Any, text: Path, mmproj: Path, pixels: npt.NDArray[np.uint8]) -> list[F32]:
    """What mtmd makes of an image (H, W, 3): the rows of each tile, in its order."""
    mtmd = pytest.importorskip("llama_cpp.mtmd_cpp", reason="llama-cpp-python is not installed")
    model = llama_cpp.llama_model_load_from_file(str(text).encode(), llama_cpp.llama_model_default_params())
    options = mtmd.mtmd_context_params_default()
    options.use_gpu = options.print_timings = options.warmup = False
    options.n_threads, options.flash_attn_type = 2, 0
    context = mtmd.mtmd_init_from_file(str(mmproj).encode(), model, options)
    assert context, "llama.cpp does not open the projector"
    height, width = pixels.shape[:2]
    bitmap = mtmd.mtmd_bitmap_init(width, height, (ctypes.c_uint8 * pixels.size).from_buffer_copy(pixels.tobytes()))
    chunks, marker = mtmd.mtmd_input_chunks_init(), mtmd.mtmd_default_marker()
    asked = mtmd.mtmd_input_text(marker, len(marker), False, True)
    status = mtmd.mtmd_tokenize(context, chunks, ctypes.byref(asked), (ctypes.c_void_p * 1)(bitmap), 1)
    assert status == 0
    found: list[F32] = []
    for i in range(mtmd.mtmd_input_chunks_size(chunks)):
        chunk = mtmd.mtmd_input_chunks_get(chunks, i)
        if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            assert mtmd.mtmd_encode_chunk(context, chunk) == 0
            shape = (mtmd.mtmd_input_chunk_get_n_tokens(chunk), 256)
            found.append(np.array(np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), shape), np.float32))
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    mtmd.mtmd_free(context)
    llama_cpp.llama_model_free(model)
    return found


def with_words(looker: Looker) -> Path:
    """The text model with a vocabulary of bytes and the marks that mtmd looks for."""
    marks = ["<fake_token_around_image>", "<global-img>", "ĊĊ"]
    n = looker.about["n_vocab"]
    tokens = [*byte_alphabet(), *marks, *(f"<{i}>" for i in range(n - 256 - len(marks)))]
    words = {"model": "gpt2", "pre": "gpt-2", "tokens": tokens, "token_type": [NORMAL] * n, "merges": ["Ċ Ċ"]}
    path = looker.place / "words.gguf"
    with GGUFReader(looker.text()) as reader:
        keys = dict(reader.metadata) | {PREFIX + key: value for key, value in words.items()}
        tensors = [
            TensorData(t.name, tuple(t.shape), t.type, reader.tensor_bytes(t.name)) for t in reader.tensors.values()
        ]
        write(path, keys | {f"{PREFIX}bos_token_id": 0, f"{PREFIX}eos_token_id": 1}, tensors)
    return path


@pytest.mark.parametrize(("name", "side", "columns"), [("smolvlm", 64, 1), ("idefics3", 48, 2)])
def test_the_peer_sees_the_same(name: str, side: int, columns: int, tmp_path: Path) -> None:
    """Tiles that are cut out of an image as they are."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    looker = Looker(name, tmp_path)
    processor = looker.about["processor"] | {"size": {"longest_edge": side * columns}}
    mmproj = tmp_path / "m.gguf"
    convert(looker.write(tmp_path / "exact", processor=processor), mmproj, "F32", mmproj=True)
    pixels = Stream(f"{name}/peer").bytes(side * columns, side * columns, 3)
    theirs = peer_rows(llama_cpp, with_words(looker), mmproj, pixels)
    with Vision(mmproj, n_threads=2) as v:
        ours = np.split(v.encode(pixels), columns**2 + (columns > 1))
    n = columns**2  # the whole image, once more, is made smaller by each in its own way
    off = max(float(np.abs(a - b).max()) for a, b in zip(ours[:n], theirs[:n], strict=True))
    print(f"{name}: {off:.2g} from llama.cpp")
    assert off <= ATOL


@pytest.mark.parametrize("name", ["llava", "llava-padded"])
def test_the_peer_orders_the_class_token_otherwise(name: str, tmp_path: Path) -> None:
    """llama.cpp puts the class token behind the patches, but gives positions and takes rows as if it were the first:
    the first patch's row is left out, the class token's is the last. That is all that differs: the same order here
    gives its rows. Ours is CLIP's, as transformers has it.
    """
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    looker = Looker(name, tmp_path)
    pixels = Stream(f"{name}/peer").bytes(56, 56, 3)
    (theirs,) = peer_rows(llama_cpp, with_words(looker), looker.mmproj(), pixels)
    with Vision(looker.mmproj(), backend="reference") as v:
        tower, n = v.tower, v.spec.n_rows
        positions, token = tower.weights["v.position_embd.weight"], tower.weights["v.class_embd"]
        table = np.concatenate([positions[-1:] + token, positions[:-1]])
        cache = ModelKVCache(v.spec.cache_spec(), n, type_name="F32", chunk=n, keep=0)
        step: Step = cache.extend(cache.add(n), [-1] * n)
        step.see_to = np.full(n, n - 1, np.int32)
        rows = tower.features(tower.patches(process(pixels, v.spec).pixels[0]), table, step, cache)
        same = np.asarray(tower.project(np.concatenate([rows[2:], rows[:1]])))
        ours = v.encode(pixels)
    apart = float(np.abs(ours - theirs).max())
    print(f"{name}: {np.abs(same - theirs).max():.2g} from llama.cpp in its order, {apart:.2g} in CLIP's")
    np.testing.assert_allclose(same, theirs, rtol=0, atol=ATOL)
    assert apart > 100 * ATOL
