"""GGUF files byte by byte: a builder that can make any mistake, and hostile files with the error each must give.

The tests of the reader walk the list, and the fuzzer starts from it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from zigllama.errors import BadMetadata, BadTensor, ModelFileError, NotGGUF, Truncated, UnsupportedType

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALAR_FORMATS = {
    U8: "B",
    I8: "b",
    U16: "H",
    I16: "h",
    U32: "I",
    I32: "i",
    F32: "f",
    BOOL: "B",
    U64: "Q",
    I64: "q",
    F64: "d",
}


def u32(n: int) -> bytes:
    return struct.pack("<I", n)


def u64(n: int) -> bytes:
    return struct.pack("<Q", n)


def text(s: str | bytes, length: int | None = None) -> bytes:
    """A string of the format; `length` lies about it."""
    raw = s.encode() if isinstance(s, str) else s
    return u64(len(raw) if length is None else length) + raw


def scalar(kind: int, value: float) -> bytes:
    return u32(kind) + struct.pack("<" + SCALAR_FORMATS[kind], value)


def key(name: str | bytes, value: bytes) -> bytes:
    return text(name) + value


def strings(*items: str | bytes) -> bytes:
    """An array of strings, as a value."""
    return u32(ARRAY) + u32(STRING) + u64(len(items)) + b"".join(text(s) for s in items)


def array(kind: int, *items: float) -> bytes:
    """An array of numbers, as a value."""
    return u32(ARRAY) + u32(kind) + u64(len(items)) + struct.pack(f"<{len(items)}{SCALAR_FORMATS[kind]}", *items)


def tensor(name: str | bytes = "t", ne: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + u32(len(ne)) + b"".join(u64(n) for n in ne) + u32(kind) + u64(offset)


@dataclass
class File:
    """A GGUF file to be; every field may be wrong."""

    keys: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: int = 3
    n_keys: int | None = None
    n_tensors: int | None = None
    alignment: int = 32

    def build(self) -> bytes:
        head = self.magic + u32(self.version)
        head += u64(len(self.tensors) if self.n_tensors is None else self.n_tensors)
        head += u64(len(self.keys) if self.n_keys is None else self.n_keys)
        head += b"".join(self.keys) + b"".join(self.tensors)
        return head + bytes(-len(head) % self.alignment) + self.data


def small() -> bytes:
    """A small valid file with every value type, arrays of them, two tensors, like a real model in miniature."""
    keys = [key("general.architecture", u32(STRING) + text("llama"))]
    keys += [key(f"scalar.{kind}", scalar(kind, 1)) for kind in SCALAR_FORMATS]
    keys += [key(f"array.{kind}", array(kind, 0, 1, 1)) for kind in SCALAR_FORMATS]
    keys += [key("tokenizer.ggml.tokens", strings("<s>", "", "caf\u00e9", "\u2581the", "x" * 300))]
    keys += [key("array.empty", array(F32)), key("strings.empty", strings())]
    keys += [key("general.alignment", scalar(U32, 64))]
    tensors = [tensor("a.weight", (64, 3), 8, 0), tensor("b.bias", (5,), 0, 256)]
    return File(keys, tensors, bytes(range(204)) + bytes(52) + bytes(range(20)), alignment=64).build()


@dataclass(frozen=True)
class Case:
    """A file, the error it must give, and a pattern in that error's message."""

    name: str
    data: bytes
    error: type[ModelFileError]
    says: str


def _one_key(value: bytes, name: str | bytes = "k") -> bytes:
    return File([key(name, value)]).build()


def _aligned(value: bytes) -> bytes:
    return File([key("general.alignment", value)], [tensor()], bytes(64)).build()


def _counts() -> list[Case]:
    cases = []
    for n in (1 << 31, 1 << 63, (1 << 64) - 1):
        cases += [
            Case(f"key_count_{n}", File(n_keys=n).build(), Truncated, str(n)),
            Case(f"tensor_count_{n}", File(n_tensors=n).build(), Truncated, str(n)),
            Case(f"both_counts_{n}", File(n_keys=n, n_tensors=n).build(), Truncated, str(n)),
            Case(f"key_length_{n}", File([text("k", n) + scalar(U8, 1)]).build(), Truncated, r"\(key 0\)"),
            Case(f"string_length_{n}", _one_key(u32(STRING) + text("s", n)), Truncated, "k needs"),
            Case(f"array_length_{n}", _one_key(u32(ARRAY) + u32(F32) + u64(n)), Truncated, "k needs"),
            Case(f"string_array_length_{n}", _one_key(u32(ARRAY) + u32(STRING) + u64(n)), Truncated, "k needs"),
            Case(
                f"string_in_array_length_{n}",
                _one_key(u32(ARRAY) + u32(STRING) + u64(2) + text("ok") + text("s", n) + bytes(64)),
                Truncated,
                "string 1 of 'k'",
            ),
            Case(f"tensor_name_length_{n}", File([], [text("t", n) + bytes(24)]).build(), Truncated, r"\(tensor 0\)"),
        ]
    for kind, item in ((U64, 8), (F32, 4), (U16, 2)):  # count * item size is 0, 8 or 16 modulo 2^64
        for extra in (0, 8 // item, 16 // item):
            n = (1 << 64) // item + extra
            if n < 1 << 64:
                data = _one_key(u32(ARRAY) + u32(kind) + u64(n) + bytes(64))
                cases.append(Case(f"array_length_wraps_{kind}_{extra}", data, Truncated, "k needs"))
    n = (1 << 61) + 1
    cases.append(
        Case("string_array_length_wraps", _one_key(u32(ARRAY) + u32(STRING) + u64(n) + text("")), Truncated, "k")
    )
    return cases


def _keys() -> list[Case]:
    twice = File([key("k", scalar(U8, 1)), key("other", scalar(U8, 1)), key("k", scalar(U8, 2))]).build()
    nested = u32(ARRAY) + u32(ARRAY) + u64(1) + u32(U8) + u64(1) + b"\1"
    bomb = u32(ARRAY) + (u32(ARRAY) + u64(1)) * 100_000
    return [
        Case("key_empty", _one_key(scalar(U8, 1), ""), BadMetadata, r"key 0.*empty"),
        Case("key_not_utf8", _one_key(scalar(U8, 1), b"a\xff"), BadMetadata, r"at byte 33: the name is not UTF-8"),
        Case("key_surrogate", _one_key(scalar(U8, 1), b"\xed\xa0\x80"), BadMetadata, "not UTF-8"),
        Case("key_too_long", _one_key(scalar(U8, 1), "k" * 65536), BadMetadata, "65536"),
        Case("key_past_end", File([text("k", 200)]).build(), Truncated, "need"),
        Case("key_twice", twice, BadMetadata, "'k'.*twice"),
        Case("value_type_13", _one_key(u32(13) + bytes(8)), BadMetadata, "value type 13"),
        Case("value_type_max", _one_key(u32((1 << 32) - 1) + bytes(8)), BadMetadata, "value type 4294967295"),
        Case("element_type_13", _one_key(u32(ARRAY) + u32(13) + u64(1) + bytes(8)), BadMetadata, "element type 13"),
        Case("array_nested", _one_key(nested), BadMetadata, "array of arrays"),
        Case("array_nested_deeply", _one_key(bomb), BadMetadata, "array of arrays"),
        Case("bool_2", _one_key(u32(BOOL) + b"\2"), BadMetadata, "boolean is 2"),
        Case("bool_array_255", _one_key(array(BOOL, 0, 1, 255)), BadMetadata, "boolean is 255"),
        Case("string_not_utf8", _one_key(u32(STRING) + text(b"ab\xc3")), BadMetadata, r"at byte 47: .*not UTF-8"),
        Case(
            "string_not_utf8_late",
            _one_key(u32(STRING) + text(b"a" * 65535 + "\u00e9".encode() + b"\xff" + b"b" * 9)),
            BadMetadata,
            f"at byte {24 + 9 + 4 + 8 + 65537}: ",
        ),
        Case(
            "keys_more_than_there_are",
            File([key("k", scalar(U8, 1))], n_keys=2, data=bytes(64)).build(),
            BadMetadata,
            "key 1",
        ),
    ]


def _alignments() -> list[Case]:
    cases = [
        Case(f"alignment_{n}", _aligned(scalar(U32, n)), BadMetadata, f"alignment.*: {n} ")
        for n in (0, 1, 3, 4, 48, 1 << 31)
    ]
    for kind in (U8, I32, U64, F32, BOOL):
        cases.append(Case(f"alignment_type_{kind}", _aligned(scalar(kind, 1)), BadMetadata, "not UINT32"))
    return [
        *cases,
        Case("alignment_string", _aligned(u32(STRING) + text("32")), BadMetadata, "type is STRING"),
        Case("alignment_array", _aligned(array(U32, 32)), BadMetadata, "type is ARRAY"),
    ]


def _tensors() -> list[Case]:
    def one(*args: object, data: bytes = bytes(64), **kwargs: object) -> bytes:
        return File([], [tensor(*args, **kwargs)], data).build()  # type: ignore[arg-type]

    def two(first: int, second: int, size: int = 256) -> bytes:
        return File([], [tensor("a", (16,), 0, first), tensor("b", (16,), 0, second)], bytes(size)).build()

    names = File([], [tensor("t", offset=0), tensor("t", offset=32)], bytes(64)).build()
    dims = text("t") + u32((1 << 32) - 1) + bytes(64)
    cases = [
        Case("tensor_name_empty", one(""), BadTensor, r"tensor 0.*empty"),
        Case("tensor_name_not_utf8", one(b"\xff\xfe"), BadTensor, r"not UTF-8"),
        Case("tensor_name_too_long", one("t" * 65536), BadTensor, "65536"),
        Case("tensor_name_twice", names, BadTensor, "'t'.*twice"),
        Case("dimensions_0", one(ne=(), data=bytes(64)), BadTensor, "0 dimensions"),
        Case("dimensions_5", one(ne=(1, 1, 1, 1, 1)), BadTensor, "5 dimensions"),
        Case("dimensions_max", File([], [dims]).build(), BadTensor, "4294967295 dimensions"),
        Case("dimension_0_first", one(ne=(0, 4)), BadTensor, "dimension of 0"),
        Case("dimension_0_second", one(ne=(4, 0)), BadTensor, "dimension of 0"),
        Case("dimension_2_64", one(ne=((1 << 64) - 1,)), BadTensor, r"2\^63"),
        Case("product_2_63", one(ne=(1 << 32, 1 << 31)), BadTensor, r"2\^63"),
        Case("product_wraps_to_0", one(ne=(1 << 32, 1 << 32)), BadTensor, r"2\^63"),
        Case("product_wraps_to_4", one(ne=((1 << 62) + 1, 4)), BadTensor, r"2\^63"),
        Case("product_wraps_twice", one(ne=(1 << 32, 1 << 32, 1 << 32, 1 << 32)), BadTensor, r"2\^63"),
        Case("bytes_wrap", one(ne=(1 << 62,)), Truncated, "'t'"),
        Case("row_of_31_q4_0", one(ne=(31,), kind=2), BadTensor, "31 elements.*Q4_0.*32"),
        Case("row_of_32_q4_k", one(ne=(32, 8), kind=12), BadTensor, "32 elements.*Q4_K.*256"),
        Case("rows_multiple_only_in_product", one(ne=(16, 2), kind=8), BadTensor, "16 elements.*Q8_0.*32"),
        Case("offset_unaligned", two(0, 65), BadTensor, "'b'.*65.*multiple"),
        Case("offset_unaligned_first", one(offset=1), BadTensor, "offset 1 "),
        Case("offset_same", two(0, 0), BadTensor, "'b'.*before 64"),
        Case("offset_overlaps", two(0, 32), BadTensor, "'b'.*before 64"),
        Case("offset_backwards", two(128, 0), BadTensor, "'b'.*before 192"),
        Case("offset_past_end", one(offset=1 << 20), Truncated, "'t'"),
        Case("offset_wraps", one(offset=(1 << 64) - 32), Truncated, "'t'"),
        Case("data_one_byte_short", one(ne=(16,), data=bytes(63)), Truncated, "'t'"),
        Case("data_missing", one(data=b""), Truncated, "'t'"),
        Case(
            "tensors_more_than_there_are", File([], [tensor()], bytes(99), n_tensors=2).build(), BadTensor, "tensor 1"
        ),
    ]
    for kind in (4, 5, 31, 32, 33, 36, 37, 38, 43, 255, 1 << 31, (1 << 32) - 1):
        cases.append(Case(f"type_{kind}", one(ne=(256,), kind=kind, data=bytes(4096)), UnsupportedType, f"id {kind}"))
    return cases


def hostile_cases() -> list[Case]:
    """Every hostile file that needs no file system."""
    cases = [
        Case("empty", b"", Truncated, "24 bytes, the file has 0"),
        Case("not_gguf", b"PK\x03\x04" + bytes(64), NotGGUF, "PK"),
        Case("ggml_old", b"lmgg" + bytes(64), NotGGUF, "lmgg"),
        Case("magic_reversed", File(magic=b"FUGG").build(), NotGGUF, "FUGG"),
    ]
    for version in (0, 1, 4, 100, 0x7FFFFFFF):
        cases.append(Case(f"version_{version}", File(version=version).build(), NotGGUF, f"version {version}"))
    for version in (3 << 24, 2 << 24, 1 << 16):
        cases.append(Case(f"big_endian_{version}", File(version=version).build(), NotGGUF, "big-endian"))
    return [*cases, *_counts(), *_keys(), *_alignments(), *_tensors()]
