"""`GGUFReader`: a GGUF model file, opened: metadata, the list of tensors, and each tensor's bytes without copying.

How a head is parsed stands in gguf_header.py, how several files make one model in gguf_split.py, how a file is written
in gguf_writer.py. What the bytes of a tensor mean is for the layers above.

Shapes are in NumPy's order, (rows, cols). GGUF itself lists dimensions the other way round ("ne", the contiguous one
first): a matrix that its file calls [576, 49152] is (49152, 576) here, 49,152 rows of 576 contiguous elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

import numpy as np
import numpy.typing as npt

from zigllama.errors import ClosedError, MissingTensor, Truncated

from .byte_source import StrPath
from .ggml_types import GGMLType
from .gguf_header import Header, TensorInfo
from .gguf_metadata import Metadata, StringArray, ValueType
from .gguf_split import open_parts
from .memory_mapping import MemoryMap

__all__ = ["GGMLType", "GGUFReader", "Metadata", "StringArray", "TensorInfo", "ValueType"]


class GGUFReader:
    """A GGUF file, version 2 or 3, little-endian; a split model opened through its first part is like one file.

        with GGUFReader("model.gguf") as r:
            r.metadata["general.architecture"]      # "llama"
            r.tensors["token_embd.weight"]          # TensorInfo: shape (49152, 576), type Q8_0, offset, n_bytes
            r.tensor_bytes("token_embd.weight")     # uint8 (n_bytes,), a view of the mapped file

    The constructor reads and checks the head only; a file is mapped when the first of its tensors is asked for. Arrays
    that were taken from a reader stay valid after `close`. Several threads may use one reader.

    Raises `NotGGUF`, `Truncated`, `BadMetadata`, `BadTensor`, `UnsupportedType`, all `ModelFileError`s, or `OSError` as
    `open` does.
    """

    def __init__(self, path: StrPath) -> None:
        self._maps: dict[int, MemoryMap] = {}
        self._closed = False
        self._sources, headers = open_parts(path)
        first: Header = headers[0]
        self.version = first.version
        self.metadata: Metadata = first.metadata
        self.alignment = first.alignment
        self.data_offset = (
            first.data_offset
        )  # of the first part; TensorInfo.offset already counts from the start of its file
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType({n: t for h in headers for n, t in h.tensors.items()})

    @property
    def paths(self) -> tuple[str, ...]:
        """The file, or all parts of a split model in order."""
        return tuple(s.path for s in self._sources)

    @property
    def n_bytes(self) -> int:
        """Bytes of the file, or of all parts."""
        return sum(s.size for s in self._sources)

    def tensor(self, name: str) -> TensorInfo:
        """`tensors[name]`, raising `MissingTensor` where there is none of that name."""
        info = self.tensors.get(name)
        if info is None:
            raise MissingTensor(name)
        return info

    def tensor_bytes(self, name: str) -> npt.NDArray[np.uint8]:
        """The tensor's bytes as they stand in the file, uint8 (n_bytes,), read-only, not copied.

        Raises `MissingTensor`; `Truncated` if the file became shorter between opening and mapping; `ClosedError` after
        `close`. A file that shrinks later takes the pages with it: `mapping(part).check_size()` tells, and native code
        guards its accesses.
        """
        info = self.tensor(name)
        return self.mapping(info.part).view[info.offset : info.offset + info.n_bytes]

    def read_at(self, part: int, offset: int, n: int) -> bytes:
        """Up to `n` bytes of a part's file by pread, which no change of the file can turn into a fault."""
        return self._sources[part].read_at(offset, n)

    def mapping(self, part: int = 0) -> MemoryMap:
        """The mapping of the file (of one part), for advice, locking and `release`. Made at the first call."""
        if self._closed:
            raise ClosedError(f"{self._sources[0].path} is closed")
        if part not in self._maps:
            source = self._sources[part]
            mapping = MemoryMap(source)
            if mapping.size < source.size:
                mapping.close()
                raise Truncated(f"{source.path}, which shrank after it was opened,", source.size, mapping.size)
            self._maps.setdefault(part, mapping)  # two threads may get here together: the first one's stays
        return self._maps[part]

    def release(self, name: str) -> bool:
        """Let go of the tensor's mapped pages, once its bytes have been copied elsewhere. See `MemoryMap.release`."""
        info = self.tensor(name)
        return self.mapping(info.part).release(info.offset, info.n_bytes)

    def close(self) -> None:
        """Close files and mappings; closing twice is allowed."""
        self._closed = True
        for mapping in self._maps.values():
            mapping.close()
        for source in self._sources:
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        parts = f", {len(self._sources)} parts" if len(self._sources) > 1 else ""
        counts = f"{len(self.metadata)} keys, {len(self.tensors)} tensors{parts}"
        return f"<GGUFReader {self._sources[0].path!r} v{self.version}, {counts}>"
