"""`Model`: a model file, ready to be used. Immutable, shared by threads; sequences belong to calls and sessions."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from zigllama.errors import InvalidArgument, UnknownName, WrongKindOfModel
from zigllama.foundation.ready_memory import ReadyMemory

# Not even NumPy is imported with this module, but when a model is made: memory for it is made ready meanwhile. What
# packing does not need is imported while it runs (`_meanwhile`), and the rest when somebody asks for it.
if TYPE_CHECKING:
    from zigllama.foundation.byte_source import StrPath
    from zigllama.foundation.runtime import F32
    from zigllama.inference.embedding import Embedder
    from zigllama.inference.generation import Event, Result, TextGenerator
    from zigllama.inference.images import Prompt
    from zigllama.inference.kv_cache import CachedSequence
    from zigllama.inference.request import Writing
    from zigllama.inference.scoring import Score
    from zigllama.inference.streaming import Handle, StreamingGenerator
    from zigllama.inference.vision import Vision
    from zigllama.models.chat_templates import ChatTemplates, RenderedChat
    from zigllama.models.decoder import Decoder
    from zigllama.models.tokenizer import Tokenizer

LOGITS_BYTES = 32 << 20  # of one step of `logits`: with a large vocabulary it takes fewer rows


class Model:
    """A model file, loaded.

    n_ctx        positions per sequence; None: what the model was trained for; with LongRoPE it also chooses between
                 the rates for short and for long contexts
    n_threads    None: ZIGLLAMA_THREADS, else physical cores within affinity and quota
    backend      "native", or "reference" (the NumPy twins: slow, for comparison); None: ZIGLLAMA_BACKEND, else native
    isa          an ISA variant by name; "auto": ZIGLLAMA_ISA, else the best
    blas         a BLAS library by name or path for prefill with float weights; "auto": ZIGLLAMA_BLAS, else our own
                 kernels ("generic"), the only ones whose bits depend on neither threads nor batch nor chunk
    float_compute   "f32"; "bf16": F16 and BF16 matrices are multiplied in bf16, twice as fast in prefill; needs the ISA
                 variant avx512bf16; None: BF16 matrices in bf16 where the variant has it, the rest in f32
    cache_type   "F16", "F32" or "Q8_0"; None: F32 for models of F32 matrices, else F16
    dequantize   multiply float32 copies of quantised matrices, with float32 activations
    repack       False: multiply straight from the mapped file (slower, no memory of its own, the same bits)
    n_seq        sequences there is a place for: sessions, and requests that run; memory only as far as it is used
    max_batch    requests that run at once; others wait their turn
    keep         tokens of ended sequences whose place in the cache is kept for prompts that begin alike; None: n_ctx
    tokenizer    instead of the file's own
    vision       a vision tower's file ("mmproj"), or a `Vision`, which stays the caller's: for prompts with images

    Raises the errors of GGUFLoader (ContextOverflow for an n_ctx beyond learned positions too), UnknownName,
    ISAUnavailable, BlasUnavailable, OutOfMemory, MappingFault; NativeError where a thread cannot be had.
    """

    def __init__(
        self,
        path: StrPath,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        backend: str | None = None,
        isa: str | None = "auto",
        blas: str | None = "auto",
        *,
        float_compute: str | None = None,
        cache_type: str | None = None,
        dequantize: bool = False,
        repack: bool = True,
        n_seq: int = 64,
        max_batch: int = 32,
        keep: int | None = None,
        tokenizer: Tokenizer | None = None,
        vision: Vision | StrPath | None = None,
    ) -> None:
        backend = backend or os.environ.get("ZIGLLAMA_BACKEND") or "native"
        if backend not in ("native", "reference"):
            raise UnknownName("backend", backend, ("native", "reference"))
        if backend == "reference" and blas not in (None, "auto"):
            raise InvalidArgument(f"blas={blas!r} with backend='reference': the twins run on NumPy and its BLAS")
        with ReadyMemory(path if backend == "native" and repack else None) as ready:
            from zigllama.foundation.blas_integration import BlasConfig, BlasInterface
            from zigllama.inference.model_info import model_info
            from zigllama.inference.packing import Packing, choose_compute, guard, unguard
            from zigllama.models.gguf import GGUFLoader

            self.blas = BlasInterface(BlasConfig() if backend == "reference" else BlasConfig.resolve(blas))
            self._loader = GGUFLoader(path, dequantize=dequantize, n_ctx=n_ctx)
            self._tokenizer = tokenizer
            self._templates: ChatTemplates | None = None
            self._guarded: list[Any] = []
            # also of a model that is dropped without close(): another file may be mapped at that address
            weakref.finalize(self, unguard, self._guarded).atexit = False
            context = packing = None
            self.vision: Vision | None = None
            try:
                spec = self._loader.spec
                if vision is not None:
                    from zigllama.inference.vision import Vision

                    self.vision = Vision.beside(vision, spec.n_embd, n_threads, backend, isa)
                self._owns_vision = self.vision is not vision
                weights = dict(self._loader.weights())
                self.info = model_info(self._loader)
                if backend == "native":
                    from zigllama.foundation.threading import placed_context

                    context = placed_context(n_threads, isa)
                self.float_compute = choose_compute(context, weights, float_compute)
                if context is not None:
                    self.blas.attach(context)
                    guard(self._guarded, self._loader.reader)
                    ready.give(context)
                    packing = Packing(context, weights, self._loader.reader, mapped=not repack, release=not dequantize)
                    packing.start()
                from zigllama.inference.batching import BatchProcessor
                from zigllama.inference.engine import CHUNK, Engine
                from zigllama.inference.kv_cache import ModelKVCache

                kind = cache_type or ("F32" if dequantize or self.info.quantisation == "F32" else "F16")
                n_ctx = spec.n_ctx if n_ctx is None else n_ctx
                if n_ctx < 1 or max_batch < 1:
                    raise InvalidArgument(f"n_ctx is {n_ctx}, max_batch {max_batch}, want at least 1")
                cache = ModelKVCache.within_memory(
                    spec.cache_spec(), n_ctx, n_seq=n_seq, type_name=kind, chunk=CHUNK, keep=keep
                )
                self.spec, self.n_ctx, self._weights = spec, n_ctx, weights
                self.decoder = self.build(weights)
                self.engine = Engine(self.decoder, cache, context)
                self.scheduler = BatchProcessor(self.engine, min(max_batch, n_seq))
                if packing is not None:
                    self._meanwhile()
                    packing.finish()
            except BaseException:
                if packing is not None:
                    packing.stop()
                if context is not None:
                    context.close()
                unguard(self._guarded)
                if self.vision is not None and self.vision is not vision:
                    self.vision.close()
                self._loader.close()
                raise
            isa_name, library = (context.isa, self.blas.label) if context else ("numpy", "numpy")
            self.fingerprint = f"isa={isa_name} cache={kind.lower()} float={self.float_compute} blas={library}"

    @cached_property
    def digest(self) -> str:
        """What tells this file from any other: see session_file.model_digest."""
        from zigllama.inference.session_file import model_digest

        return model_digest(self._loader.reader)

    def build(self, weights: Mapping[str, Any]) -> Decoder:
        """The forward pass of this model over weights of the names that `weights` has."""
        made: Decoder = self._loader.architecture.model(self.spec, weights)
        return made

    @property
    def weights(self) -> Mapping[str, Any]:
        """Every tensor by its GGUF name: matrices as `Weight`, vectors as float32 arrays."""
        return self._weights

    @property
    def backend(self) -> dict[str, Any]:
        """What really runs: backend, execution, ISA variant, threads, how float weights are computed, BLAS library."""
        from zigllama.inference.model_info import backend_info

        return backend_info(self.engine.context, self.engine.mode, self.float_compute, self.blas)

    def _meanwhile(self) -> None:
        """What the first answer needs besides packed weights: modules, and the recorded tape. Not the tokenizer, whose
        tables take 3 MB that a program with ids of its own would not need."""
        from zigllama.inference import guided, row_scan, streaming, text_options  # noqa: F401

        self.engine.prepare()

    # --- text ---

    @property
    def tokenizer(self) -> Tokenizer:
        """The file's tokenizer, made when first asked for. Raises UnsupportedTokenizer, BadMetadata."""
        from zigllama.models.tokenizer import Tokenizer

        self._tokenizer = self._tokenizer or Tokenizer.from_metadata(self._loader.reader.metadata)
        return self._tokenizer

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        template: str | None = None,
        **variables: Any,
    ) -> RenderedChat:
        """The file's template (or one passed, by name or as text) over messages: `.text` and `.ids`.

        `variables` are what the template reads besides (enable_thinking, documents). What users write never becomes a
        control token. Raises TemplateMissing, UnknownName, TemplateError, TemplateLimit, InvalidArgument.
        """
        from zigllama.models.chat_templates import ChatTemplates  # jinja2 is only loaded when a chat needs it

        made = self._templates if template is None else None
        made = made or ChatTemplates.from_metadata(self._loader.reader.metadata, self.tokenizer, template=template)
        self._templates = made if template is None else self._templates
        return made.render_chat(messages, tools, add_generation_prompt, **variables)

    # --- numbers ---

    def logits(self, ids: Sequence[int], *, image: Any = None, image_at: Any = None) -> F32:
        """Logits (T, V) of every position of `ids`, from position 0; no state is kept.

        image      rows of an image, float32 (N, C) as `Vision.encode` gives them; they stand before token `image_at`,
                   and have logits too: (T + N, V). Lists of both for several images.

        Raises ContextOverflow, InvalidArgument for an id outside the vocabulary, ShapeError, NonFinite.
        """
        import numpy as np

        from zigllama.inference.images import stood_in

        self._want_causal("logits")
        prompt = stood_in(self._ids(ids), image, image_at, self.spec.n_embd)
        out = np.empty((len(prompt.ids), self.spec.n_vocab), np.float32)

        def keep(at: int, rows: F32) -> None:
            out[at : at + len(rows)] = rows

        self._scan(prompt, keep, 0)
        return out

    def scan_logits(self, ids: Sequence[int], see: Callable[[int, F32], None], first: int = 0) -> None:
        """The logits of every position from `first` on without ever holding all: see(at, rows) gets them in order, as
        float32 rows (R, V) of the positions at, at + 1, ..., valid during the call only and at most LOGITS_BYTES (or 16
        rows). What `see` raises ends the scan. Raises as `logits`."""
        from zigllama.inference.images import Prompt

        self._want_causal("logits")
        self._scan(Prompt(self._ids(ids)), see, first)

    def _scan(self, prompt: Prompt, see: Callable[[int, F32], None], first: int) -> None:
        from zigllama.inference.request import Reading

        if prompt.ids:
            request = Reading(prompt.ids, see, self.n_ctx, self._rows_of_logits, first, prompt.images)
            self.scheduler.submit(request, alone=True)
            self.scheduler.finish(request)

    @property
    def _rows_of_logits(self) -> int:
        """Of a step that wants the logits of all its rows."""
        from zigllama.inference.engine import CHUNK

        return min(CHUNK, max(16, LOGITS_BYTES // 4 // self.spec.n_vocab))

    def score(self, text: str | Sequence[int]) -> Score:
        """How likely the model finds a text: `.logprobs` (natural log, float32) of every token after the first, given
        those before it; `.token_ids`; `.perplexity`. Text gets the model's special tokens, ids are taken as they are.

        Raises InvalidArgument for fewer than two tokens or an id outside the vocabulary, ContextOverflow, NonFinite.
        """
        from zigllama.inference.scoring import score

        return score(self, self.prompt_ids(text))

    @cached_property
    def _embedder(self) -> Embedder:
        from zigllama.inference.embedding import Embedder

        self.engine.check_process()
        with self.engine.lock:
            self.engine.check()
            return Embedder(self.engine, self.n_ctx)

    def hidden(self, ids: Sequence[int], segments: Sequence[int] | None = None) -> F32:
        """The rows after the last layer, normalised: float32 (T, C), one per token. `segments`: of an encoder, which of
        its texts each token belongs to (0 where there is none). Raises ContextOverflow, InvalidArgument, NonFinite."""
        ids = self._ids(ids)
        if segments is not None:
            n = getattr(self.spec, "n_segments", 0)
            if len(segments) != len(ids) or not all(0 <= s < n for s in segments):
                raise InvalidArgument(f"{len(segments)} segments for {len(ids)} tokens, of a model that has {n}")
        _, rows = next(self._embedder.rows([ids], segments=[segments]))
        return rows

    def embed(
        self,
        texts: str | Sequence[str | Sequence[int]],
        pooling: str | None = None,
        normalize: bool = True,
        *,
        truncate: bool = False,
    ) -> F32:
        """Texts (or lists of token ids) as one row each: float32 (N, C), of length 1 with `normalize`.

        pooling    "mean", "cls" (the first row) or "last"; None: what the file says, else mean
        truncate   cut a text to the context, keeping the token that ends it, and log a warning that says so; otherwise
                   a text that is too long is an error

        A text's row is the same, bit for bit, whatever it is embedded with. Raises ContextOverflow, InvalidArgument for
        a text without tokens, UnknownName, NonFinite, and what the tokenizer raises.
        """
        from zigllama.inference.embedding import choose_pooling, cut, pooled, pooling_of

        kind = choose_pooling(pooling, pooling_of(self._loader.reader.metadata))
        listed = [self.prompt_ids(t) for t in ([texts] if isinstance(texts, str) else texts)]
        if truncate:
            listed = [cut(ids, self.n_ctx, 1 if self.tokenizer.add_eos else 0) for ids in listed]
        return pooled(self._embedder, listed, kind, self.spec.n_embd, normalize)

    def _want_causal(self, asked: str) -> None:
        if not self.spec.causal:
            raise WrongKindOfModel(
                asked, "an encoder, whose rows see the whole text", "`embed` texts and give `hidden` rows"
            )

    def _ids(self, ids: Sequence[int]) -> list[int]:
        ids = [int(i) for i in ids]
        bad = next((i for i in ids if not 0 <= i < self.spec.n_vocab), None)
        if bad is not None:
            raise InvalidArgument(f"token id {bad} is outside the vocabulary of {self.spec.n_vocab}")
        return ids

    # --- generation ---

    def prompt_ids(self, prompt: str | Sequence[int]) -> list[int]:
        """Text is encoded with the model's special tokens around it; a list of ids is taken as it is."""
        return self._ids(self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt)

    def prompt(self, prompt: str | Sequence[int], images: Iterable[Any] | None = None) -> Prompt:
        """A prompt as it is read. With `images` each `<image>` of a text, or -1 of a list, is one of them, in order;
        without, `<image>` is text like any other. Raises what `generate` raises of images."""
        from zigllama.inference.images import Prompt, split_text, with_images

        if images is None:
            return Prompt(self.prompt_ids(prompt))
        ids = split_text(prompt, self.tokenizer) if isinstance(prompt, str) else [int(i) for i in prompt]
        self._ids([i for i in ids if i != -1])
        return with_images(ids, images, self.vision, self.tokenizer)

    def generator(self, **options: Any) -> TextGenerator:
        """A TextGenerator with options of `generate`; see text_options.py. Raises as `text_generator`."""
        from zigllama.inference.row_scan import RowScan
        from zigllama.inference.text_options import text_generator

        return text_generator(self.tokenizer, self.n_ctx, RowScan(self.engine.context), **options)

    def request(
        self,
        prompt: str | Sequence[int] | Prompt,
        *,
        lookup: bool | int = False,
        deadline: float | None = None,
        reuse: bool = True,
        sequence: CachedSequence | None = None,
        images: Iterable[Any] | None = None,
        **options: Any,
    ) -> Writing:
        """A request for the scheduler with the options of `generate`; `sequence`: one that already holds the prompt's
        beginning. Raises what `generate` raises before anything is run."""
        from zigllama.inference.guided import writing
        from zigllama.inference.images import Prompt

        self._want_causal("a continuation")
        generator = self.generator(**options)
        made = prompt if isinstance(prompt, Prompt) else self.prompt(prompt, images)
        negative = generator.sampler.params.negative_prompt
        return writing(
            made.ids,
            generator,
            self._rows_of_logits,
            None if negative is None else self.prompt_ids(negative),
            self.scheduler.max_batch,
            images=made.images,
            read=made.read,
            fingerprint=self.fingerprint,
            lookup=lookup,
            deadline=deadline,
            adopt=reuse,
            sequence=sequence,
        )

    @overload
    def generate(
        self, prompt: str | Sequence[int] | Prompt, *, stream: Literal[False] = False, **options: Any
    ) -> Result: ...

    @overload
    def generate(
        self, prompt: str | Sequence[int] | Prompt, *, stream: Literal[True], **options: Any
    ) -> StreamingGenerator: ...

    def generate(
        self, prompt: str | Sequence[int] | Prompt, *, stream: bool = False, **options: Any
    ) -> Result | StreamingGenerator:
        """Continue a prompt. Options: max_tokens, stop, ignore_eos, the keywords of SamplingParams, and

            lookup      guess from what was written before (prompt_lookup.py): True, or how many tokens; the same text
            deadline    seconds after which it ends, with what there is: finish_reason "deadline"
            reuse       False: read the whole prompt, whatever is in the cache
            grammar     what the answer must look like: a `Grammar`, or GBNF; or one of
            json_schema regex ebnf gbnf cfg xsd     in these notations; see `Grammar`
            forced      False: ask the model for tokens too that have no alternative; the text is the same
            images      what `<image>` (or -1) in the prompt stands for, in order: paths, files' bytes, pixels uint8
                        (H, W, 3), or rows that `Vision` gave

        With stream=True an iterator of events, whose text is always whole UTF-8; closing it stops.
        Raises ContextOverflow, InvalidArgument, NonFinite, TypeError for an unknown keyword; with images also
        PlaceholderMismatch, VisionMissing, BadImage, ImageTooLarge, PillowMissing.
        """
        from zigllama.inference.keyword_types import as_bool
        from zigllama.inference.streaming import StreamingGenerator

        events = StreamingGenerator(self.scheduler, self.request(prompt, **options))
        return events if as_bool("stream", stream) else events.run()

    def submit(self, prompt: str | Sequence[int], **options: Any) -> Handle:
        """Continue a prompt meanwhile: `handle.result()`, `handle.cancel()`, or its events. As `generate` otherwise."""
        from zigllama.inference.streaming import Handle

        request = self.request(prompt, **options)
        self.scheduler.submit(request)
        return Handle(self.scheduler, request)

    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        images: Sequence[Iterable[Any] | None] | None = None,
        **options: Any,
    ) -> list[Result]:
        """Continue many prompts together, with the same options (`images`: a list for each prompt): each result is what
        `generate` gives alone, bit for bit. Raises what `generate` raises for the first that fails; the others are
        cancelled."""
        from zigllama.inference.streaming import together

        listed = [None] * len(prompts) if images is None else list(images)
        if len(listed) != len(prompts):
            raise InvalidArgument(f"{len(listed)} lists of images for {len(prompts)} prompts")
        pairs = zip(prompts, listed, strict=True)
        return together(self.scheduler, [self.request(prompt, images=mine, **options) for prompt, mine in pairs])

    def agenerate(
        self, prompt: str | Sequence[int], *, stream: Literal[True] = True, **options: Any
    ) -> AsyncIterator[Event]:
        """The events of `generate(stream=True)` for `async for`; the event loop is never blocked. Leaving it stops."""
        from zigllama.inference.streaming import agenerate

        if not stream:
            raise InvalidArgument("agenerate gives events as they come: stream can only be True")
        return agenerate(self.scheduler, self.request(prompt, **options))

    def chat(
        self, messages: str | Sequence[Mapping[str, Any]], tools: Any = None, template: Any = None, **options: Any
    ) -> Any:
        """Answer messages (or one user's message as text), without keeping state: a Result, or events with stream=True.

        A content may be a list of parts, images among them (models/image_parts.py). `tools`: schemas or functions
        (tool_schemas.py); what the model asks for is `result.tool_calls`. `template` as in `render_chat`, a mapping
        `template_variables` is what it reads besides. Options and errors as in `generate` and `render_chat`."""
        from zigllama.inference.chat_prompt import chat_prompt

        return self.generate(chat_prompt(self, messages, tools, template, options), **options)

    def session(self, *, system: str | None = None) -> Any:
        """A conversation that keeps its place in the cache. See Session."""
        from zigllama.inference.session import Session

        self._want_causal("a conversation")
        return Session(self, system)

    def close(self) -> None:
        """Give threads, memory and the file back. Closing twice is allowed."""
        from zigllama.inference.packing import unguard

        self.scheduler.close()
        if "_embedder" in vars(self) and not self.engine.forked:
            with self.engine.lock:  # no step of it is running, and none begins before the engine is closed
                self._embedder.close()
                self.engine.close()
        self.engine.close()
        for weight in self._weights.values():
            if hasattr(weight, "close"):
                weight.close()
        unguard(self._guarded)
        if self.vision is not None and self._owns_vision:
            self.vision.close()
        self._loader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        i = self.info
        return f"<Model {i.name!r} {i.architecture} {i.quantisation}, {i.n_params / 1e6:.0f} M parameters>"
