"""Every exception zigllama raises on purpose, in one tree with `ZigllamaError` at the root.

The module imports nothing, so any layer may use it. An exception carries the numbers that led to it as attributes, and
its message says them: a reader of the message alone knows what was expected, what was found, and where.
"""

from __future__ import annotations


class ZigllamaError(Exception):
    """Root of all errors of this package."""


# --- input to a function ----------------------------------------------------------------------------------------------


class InvalidArgument(ZigllamaError, ValueError):
    """An argument has a value the function cannot use."""


class ShapeError(InvalidArgument):
    """Shapes of arrays or tensors do not fit together."""


class DTypeError(InvalidArgument):
    """An array has an element type the function does not take."""


class IndexOutOfRange(InvalidArgument, IndexError):
    """An index lies outside the dimension it is for."""


class UnknownName(InvalidArgument):
    """A name (ISA variant, BLAS library, catalogue entry, type) that does not exist; `nearest` is the closest that
    does.
    """

    def __init__(self, kind: str, name: str, known: tuple[str, ...] = (), nearest: str | None = None) -> None:
        self.kind, self.name, self.known, self.nearest = kind, name, known, nearest
        hint = f"; did you mean {nearest!r}?" if nearest else ""
        names = f" (known: {', '.join(known)})" if known else ""
        super().__init__(f"unknown {kind} {name!r}{hint}{names}")


# --- model files ------------------------------------------------------------------------------------------------------


class ModelFileError(ZigllamaError):
    """A model file cannot be used; every subclass says where and why."""


class NotGGUF(ModelFileError):
    """The file does not begin with the four bytes `GGUF`, or is no regular file, or has a version that is not read."""


class Truncated(ModelFileError):
    """The file ends before the data it announces: `need` bytes against `have`."""

    def __init__(self, what: str, need: int, have: int) -> None:
        self.what, self.need, self.have = what, need, have
        super().__init__(f"file is truncated: {what} needs {need} bytes, the file has {have}")


class BadMetadata(ModelFileError):
    """A metadata key or its value is malformed or out of range; `offset` is the byte in the file, -1 where there is
    none.
    """

    def __init__(self, key: str, reason: str, offset: int = -1) -> None:
        self.key, self.reason, self.offset = key, reason, offset
        where = f" at byte {offset}" if offset >= 0 else ""
        super().__init__(f"bad metadata {key!r}{where}: {reason}")


class BadTensor(ModelFileError):
    """A tensor's entry is malformed: shape, type, or offset."""

    def __init__(self, tensor: str, reason: str) -> None:
        self.tensor, self.reason = tensor, reason
        super().__init__(f"bad tensor {tensor!r}: {reason}")


class MissingTensor(ModelFileError):
    """A tensor that the architecture needs is not in the file."""

    def __init__(self, tensor: str, shape: tuple[int, ...] | None = None) -> None:
        self.tensor, self.shape = tensor, shape
        super().__init__(f"missing tensor {tensor!r}" + (f" of shape {shape}" if shape else ""))


class TensorShapeMismatch(BadTensor):
    """A tensor has another shape than the hyper-parameters ask for."""

    def __init__(self, tensor: str, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
        self.expected, self.found = expected, found
        super().__init__(tensor, f"expected shape {expected}, found {found}")


class UnsupportedType(ModelFileError):
    """A tensor's number format is unknown or not read."""

    def __init__(self, tensor: str, type_name: str) -> None:
        self.tensor, self.type_name = tensor, type_name
        super().__init__(f"tensor {tensor!r} has unsupported type {type_name}")


class UnsupportedQuantization(ModelFileError):
    """A folder's weights are packed by a method whose numbers are not read; `method` is its name."""

    def __init__(self, path: str, method: str, what: str) -> None:
        self.path, self.method = path, method
        super().__init__(f"{path}: weights quantised by {method} ({what}) are not read; convert the unquantised model")


class UnsupportedArchitecture(ModelFileError):
    """No architecture of that name is registered; `nearest` is the closest that is."""

    def __init__(self, name: str, nearest: str | None = None) -> None:
        self.name, self.nearest = name, nearest
        super().__init__(f"unsupported architecture {name!r:.120}" + (f"; nearest is {nearest!r}" if nearest else ""))


class UnsupportedTokenizer(ModelFileError):
    """The file names a tokenizer or pre-tokenizer that is not known; passing one explicitly is the way out."""

    def __init__(self, name: str, hint: str = "") -> None:
        self.name = name
        super().__init__(f"unsupported tokenizer {name!r}" + (f"; {hint}" if hint else ""))


class TemplateMissing(ModelFileError):
    """The model has no chat template and none was passed."""


class TemplateError(ZigllamaError):
    """A chat template cannot be rendered: syntax, a forbidden access, or `raise_exception` called by the template
    itself.
    """


class TemplateLimit(TemplateError):
    """Rendering a chat template passed its budget of steps, bytes or time."""

    def __init__(self, what: str, limit: float) -> None:
        self.what, self.limit = what, limit
        super().__init__(f"chat template exceeded its budget: more than {limit:g} {what}")


class BadCheckpoint(ModelFileError):
    """A folder of weights (config.json, safetensors, tokenizer files) is malformed: which file, and why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class LogitsFileError(ModelFileError):
    """Saved logits of a reference model cannot be used here: the file and why, with the numbers."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"saved logits {path}: {reason}")


# --- images -----------------------------------------------------------------------------------------------------------


class BadImage(InvalidArgument):
    """An image cannot be used: which, and why."""

    def __init__(self, image: str, reason: str) -> None:
        self.image, self.reason = image, reason
        super().__init__(f"image {image}: {reason}")


class ImageTooLarge(BadImage):
    """An image has, or would be resized to, more than `limit` pixels."""

    def __init__(self, image: str, width: int, height: int, limit: int) -> None:
        self.width, self.height, self.limit = width, height, limit
        super().__init__(image, f"has {width} x {height} pixels, at most {limit} in all are read")


class PillowMissing(ZigllamaError):
    """Pillow, which decodes and resizes images, is not installed."""


class PlaceholderMismatch(InvalidArgument):
    """A prompt has places for another number of images than there are."""

    def __init__(self, places: int, images: int) -> None:
        self.places, self.images = places, images
        super().__init__(f"the prompt has places for {places} images, {images} are given")


class VisionMissing(InvalidArgument):
    """A prompt has images, the model has no vision tower to read them with."""


# --- making files -----------------------------------------------------------------------------------------------------


class NoSpace(ZigllamaError, OSError):
    """A file of `need` bytes could not be written whole: the disk, a quota or a limit of the process is full. There
    is no half of it at `path`, and no temporary file.
    """

    def __init__(self, path: str, need: int, reason: str) -> None:
        self.path, self.need, self.reason = path, need, reason
        super().__init__(f"{path} needs {need} bytes: {reason}; nothing half is left")


class BadImportance(ModelFileError):
    """A file of importances (an imatrix) is malformed, or its numbers do not fit the model."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"importance file {path}: {reason}")


class ImportanceNeeded(InvalidArgument):
    """A tensor would get a type that is useless without importance, and there is none for it."""

    def __init__(self, tensor: str, type_name: str, given: bool) -> None:
        self.tensor, self.type_name, self.given = tensor, type_name, given
        how = "the importance matrix given has none for it" if given else "give an importance matrix (--imatrix)"
        super().__init__(f"tensor {tensor!r} as {type_name} needs importance: {how}")


class RequantizeRefused(InvalidArgument):
    """A tensor is quantised already, and quantising it again loses more than from a wider source."""

    def __init__(self, tensor: str, source: str, target: str) -> None:
        self.tensor, self.source, self.target = tensor, source, target
        super().__init__(
            f"tensor {tensor!r} is {source} already; making it {target} loses more than from F16 or F32 "
            "(allow_requantize, --allow-requantize)"
        )


# --- grammars ---------------------------------------------------------------------------------------------------------


class GrammarError(InvalidArgument):
    """A grammar, expression or schema cannot be read: what is wrong, at which line and column (from 1; 0: nowhere)."""

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        self.reason, self.line, self.column = reason, line, column
        super().__init__(f"line {line}, column {column}: {reason}" if line else reason)


class UnsupportedSyntax(GrammarError):
    """A grammar or expression uses something that is not, or cannot be, enforced here; `feature` is its name."""

    def __init__(self, feature: str, why: str, line: int = 0, column: int = 0) -> None:
        self.feature, self.why = feature, why
        super().__init__(f"{feature} is not supported: {why}", line, column)


class BadSchema(GrammarError):
    """A schema is no schema: `pointer` (a JSON Pointer, or a path of elements in XML) says where."""

    def __init__(self, pointer: str, why: str) -> None:
        self.pointer, self.why = pointer, why
        super().__init__(f"bad schema at {pointer or 'its root'}: {why}")


class UnsupportedSchema(GrammarError):
    """A schema asks for what cannot be enforced while a text is written: the keyword at `pointer`, and why."""

    def __init__(self, pointer: str, keyword: str, why: str) -> None:
        self.pointer, self.keyword, self.why = pointer, keyword, why
        super().__init__(f"{keyword} at {pointer or 'the root'} of the schema is not supported: {why}")


class EmptyLanguage(GrammarError):
    """No text at all satisfies a grammar, expression or schema: nothing could be generated."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"no text satisfies {what}")


class GrammarBudget(GrammarError):
    """A grammar needs more than it may have: `have` of `what` against `limit`."""

    def __init__(self, what: str, have: int, limit: int) -> None:
        self.what, self.have, self.limit = what, have, limit
        super().__init__(f"the grammar needs {have} {what}, the limit is {limit}")


class NoTokenAllowed(ZigllamaError):
    """A grammar is not finished, and no token of the vocabulary continues it: after `written` bytes, which `expected`
    says what.
    """

    def __init__(self, written: int, expected: str) -> None:
        self.written, self.expected = written, expected
        super().__init__(f"after {written} bytes no token of the vocabulary is allowed; the grammar expects {expected}")


class GrammarRefused(ZigllamaError):
    """A finished answer was refused by the validator that looks at it once more: a defect, never to be passed on."""

    def __init__(self, text: str, why: str) -> None:
        self.text, self.why = text, why
        super().__init__(f"the answer {text!r:.200} does not satisfy its grammar: {why}")


# --- running ----------------------------------------------------------------------------------------------------------


class OutOfMemory(ZigllamaError, MemoryError):
    """An allocation failed or would exceed the limit; `need` bytes."""

    def __init__(self, what: str, need: int) -> None:
        self.what, self.need = what, need
        super().__init__(f"out of memory: {what} needs {need} bytes")


class ContextOverflow(ZigllamaError):
    """More positions are needed than the context has."""

    def __init__(self, need: int, have: int) -> None:
        self.need, self.have = need, have
        super().__init__(f"context overflow: {need} positions are needed, the context has {have}")


class WrongKindOfModel(ZigllamaError):
    """A model was asked for what its kind does not have: an encoder to write. `can` says what it does."""

    def __init__(self, asked: str, kind: str, can: str) -> None:
        self.asked, self.kind, self.can = asked, kind, can
        super().__init__(f"{asked} cannot be had: the model is {kind}; it can {can}")


class NonFinite(ZigllamaError):
    """The model produced NaN or infinite logits; `op` and `layer` name the first op that did."""

    def __init__(self, op: str, layer: int | None) -> None:
        self.op, self.layer = op, layer
        where = "" if layer is None else f" in layer {layer}"
        super().__init__(f"non-finite values first appear in {op}{where}")


class NativeError(ZigllamaError):
    """The C library refused a call; the message is the C library's own text."""


class ISAUnavailable(NativeError):
    """The ISA variant asked for exists, but this CPU cannot run it."""


class BlasUnavailable(NativeError):
    """A BLAS library was named and cannot be had: `why` says of each file that was tried what is wrong with it."""

    def __init__(self, name: str, why: tuple[str, ...]) -> None:
        self.name, self.why = name, why
        super().__init__(f"BLAS library {name!r} cannot be used: {'; '.join(why)}")


class MappingFault(NativeError, OSError):
    """A mapped file changed while it was in use (it shrank, or its disk failed): bytes that were needed are gone."""


class ForkedContext(NativeError):
    """A context was used in a child process after fork(); threads do not survive a fork; make a new one."""


class ContextBusy(NativeError):
    """A native context is being used by another thread."""


class ClosedError(ZigllamaError):
    """An object was used after close()."""


class SessionBusy(ZigllamaError):
    """A session was spoken to while it was in the middle of an answer."""


class SessionFileError(ZigllamaError):
    """A saved session cannot be used, or not be saved there: the file and why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"saved session {path}: {reason}")


class SessionMismatch(SessionFileError):
    """A session was saved by another model, or by the same one on another ISA variant or with another cache."""

    def __init__(self, path: str, what: str, expected: str, found: str) -> None:
        self.what, self.expected, self.found = what, expected, found
        super().__init__(path, f"its {what} is {found!r}, here it is {expected!r}")


class PullError(ZigllamaError):
    """A model could not be fetched; the message says what to do."""


class ChecksumMismatch(PullError):
    """A fetched file is not the pinned one."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        self.name, self.expected, self.found = name, expected, found
        super().__init__(f"{name}: sha256 is {found}, expected {expected}")
