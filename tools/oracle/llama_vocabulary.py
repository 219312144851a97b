"""llama.cpp's tokenizer through its library as it is built, without a Python package around it.

    LLAMA_CPP_LIB_PATH=/path/with/libllama.so      as llama-cpp-python reads it

The one struct that is passed by value is that of the version vendored in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

VERSION = "llama.cpp as vendored in llama-cpp-python 0.3.36"


class _ModelParams(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("devices", "buffer_overrides")),
        *((name, ctypes.c_int32) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")),
        *((name, ctypes.c_void_p) for name in ("tensor_split", "progress", "progress_data", "kv_overrides")),
        *(
            (name, ctypes.c_bool)
            for name in ("vocab_only", "check_tensors", "extra_bufts", "no_host", "no_alloc", "mtp")
        ),
    ]


def _library() -> ctypes.CDLL:
    folder = os.environ.get("LLAMA_CPP_LIB_PATH")
    if not folder:
        raise OSError("LLAMA_CPP_LIB_PATH must name the folder of libllama.so")
    lib = ctypes.CDLL(str(Path(folder) / "libllama.so"))
    lib.llama_model_default_params.restype = _ModelParams
    lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, _ModelParams]
    lib.llama_model_load_from_file.restype = ctypes.c_void_p
    lib.llama_model_get_vocab.argtypes, lib.llama_model_get_vocab.restype = [ctypes.c_void_p], ctypes.c_void_p
    lib.llama_model_free.argtypes, lib.llama_model_free.restype = [ctypes.c_void_p], None
    lib.llama_tokenize.argtypes = [
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32),
        *(ctypes.c_bool, ctypes.c_bool),
    ]
    lib.llama_log_set.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return lib


_QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


class LlamaVocabulary:
    """A file's vocabulary in llama.cpp. Raises OSError where there is no library, ValueError for a file it refuses."""

    def __init__(self, path: str | Path) -> None:
        self._lib = lib = _library()
        lib.llama_log_set(ctypes.cast(_QUIET, ctypes.c_void_p), None)
        lib.llama_backend_init()
        params = lib.llama_model_default_params()
        params.vocab_only = True
        self._model = lib.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ValueError(f"llama.cpp cannot load {path}")
        self._vocab = lib.llama_model_get_vocab(self._model)

    def into(self, text: bytes, room: ctypes.Array[ctypes.c_int32], add: bool = False, parse: bool = False) -> int:
        """Token ids of a text of UTF-8 into `room`; how many. Raises ValueError where they are more."""
        n: int = self._lib.llama_tokenize(self._vocab, text, len(text), room, len(room), add, parse)
        if n < 0:
            raise ValueError(f"llama.cpp needs room for {-n} ids, of {len(text)} bytes")
        return n

    def encode(self, text: bytes, add_special: bool = False, parse_special: bool = False) -> list[int]:
        """Token ids of a text of UTF-8."""
        ids = (ctypes.c_int32 * (8 * len(text) + 8))()  # a normal form may be longer: U+FDFA is 18 letters
        return ids[: self.into(text, ids, add_special, parse_special)]

    def close(self) -> None:
        """Let go of it."""
        self._lib.llama_model_free(self._model)
