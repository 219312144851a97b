"""`ChatTemplates`: from messages to the text and the token ids that a model was trained on.

A model's file carries its template, a Jinja program; it runs in a sandbox with a budget (template_sandbox.py). The
template's own text may become control tokens (`<|im_start|>`), but never what a user wrote: where a message holds the
text of a control token, or could complete one together with the text around it, a marker character is put behind its
first letters before the template sees it. A marked text is no control token's any more; the marker is taken out again
when the control tokens have been cut out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Self

from zigllama.errors import InvalidArgument, TemplateError, TemplateLimit, TemplateMissing, UnknownName
from zigllama.models.built_in_templates import BUILT_IN, built_in
from zigllama.models.image_parts import PLACEHOLDER, flattened, taken_out
from zigllama.models.special_tokens import Texts
from zigllama.models.template_sandbox import Sandbox
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.tool_call_parts import ParsedAnswer
from zigllama.models.tool_calls import find_tool_calls, format_of, said
from zigllama.models.tool_schemas import as_schemas

KEY = "tokenizer.chat_template"  # and KEY.NAME for further ones
EDGE = 64  # characters at the ends of a control token's text; those in use have 30 at most


@dataclass(frozen=True)
class RenderedChat:
    """A rendered conversation: its text, and its token ids, to be used as they are (nothing is added).

    `images`: those of its messages, in order; each stands as `<image>` in the text and as -1 among the ids. `read`:
    where there are tools, and the template writes calls in a known form, how they are read out of an answer's ids.
    """

    text: str
    ids: list[int]
    images: tuple[Any, ...] = ()
    read: Callable[[Sequence[int]], ParsedAnswer] | None = field(default=None, repr=False, compare=False)


class ChatTemplates:
    """Chat templates bound to a tokenizer: one, or several by name.

    source       Jinja text, or texts by name: "default" is rendered, and "tool_use", if there is one, where tools are
                 given
    variables    what templates may read besides: bos_token, eos_token

    Raises TemplateError for a template that does not compile, TemplateLimit for one that is too long, InvalidArgument.
    """

    def __init__(
        self, source: str | Mapping[str, str], tokenizer: Tokenizer, variables: Mapping[str, str] | None = None
    ) -> None:
        sources = {"default": source} if isinstance(source, str) else source
        for what, given in (("a template's source", sources), ("variables", variables or {})):
            if not isinstance(given, Mapping) or not all(isinstance(s, str) for s in (*given, *given.values())):
                raise InvalidArgument(f"{what}: want texts by name, found {given!r:.100}")
        if not sources:
            raise InvalidArgument("no template is given")
        if not isinstance(tokenizer, Tokenizer):
            raise InvalidArgument(f"a template is bound to a Tokenizer, not {type(tokenizer).__name__}")
        self.tokenizer = tokenizer
        self._variables = dict(variables or {})
        self._sandbox = Sandbox()
        self.sources = dict(sources)
        self._templates = {name: self._sandbox.compile_bounded(text) for name, text in sources.items()}

    @property
    def source(self) -> str:
        """The template's Jinja text."""
        return self.sources[self.chosen(None)]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], tokenizer: Tokenizer, template: str | None = None) -> Self:
        """The file's templates; or `template`: one of the file's by name, a built-in one by name, or Jinja text.

        Raises TemplateMissing, UnknownName for a name that neither has, TemplateError, InvalidArgument.
        """
        if not isinstance(template, str | None):
            raise InvalidArgument(f"a template is a name or Jinja text, not {type(template).__name__}")
        own = {"default" if k == KEY else k[len(KEY) + 1 :]: v for k, v in metadata.items() if _is_template(k)}
        for name, text in own.items():
            if not isinstance(text, str):
                raise TemplateError(f"the chat template {name} is no text but {type(text).__name__}")
        if template is not None:
            own = {"default": own.get(template) or built_in(template) or _jinja(template, own)}
        if not own:
            raise TemplateMissing(
                f"the model has no chat template; pass one by name ({', '.join(BUILT_IN)}) or as Jinja text"
            )

        def text_of(id: int | None) -> str:
            return "" if id is None else tokenizer.piece(id).decode("utf-8", "replace")

        variables = {"bos_token": text_of(tokenizer.bos_id), "eos_token": text_of(tokenizer.eos_id)}
        return cls(own, tokenizer, variables)

    def chosen(self, tools: Sequence[Any] | None) -> str:
        """The name of the template that is rendered."""
        if tools is not None and "tool_use" in self.sources:
            return "tool_use"
        return "default" if "default" in self.sources else next(iter(self.sources))

    def render_chat(
        self,
        /,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> RenderedChat:
        """Messages -> text and ids.

        messages     {"role": .., "content": ..}; what else a template reads of them (tool_calls, name) is passed on. A
                     content is a text, None, or a list of parts, some of which may be images (image_parts.py)
        tools        schemas of functions, as JSON has them, or Python functions (tool_schemas.py)
        variables    what this template reads besides: enable_thinking, documents, date_string

        Raises TemplateError (with the template's own words where it refuses), TemplateLimit, InvalidArgument.
        """
        _check(messages, add_generation_prompt)
        tools = as_schemas(tools)
        messages, images = taken_out(messages)
        marker = _unused(messages, tools, variables)
        guard = _Guard(self._controls_and_images if images else self._controls, marker)
        template = self._templates[self.chosen(tools)]
        seen = {
            **self._variables,
            "documents": None,
            **guard(variables),
            "tools": None if tools is None else guard(list(tools)),
            "add_generation_prompt": add_generation_prompt,
        }

        def render(shown: list[Any]) -> str:
            return self._sandbox.render_bounded(template, {**seen, "messages": shown}, marker)

        marked = _rendered(render, guard(messages), len(images))
        read = self._reader(marked.replace(marker, ""), tools)
        if not images:
            return RenderedChat(marked.replace(marker, ""), self.tokenizer.encode_template(marked, marker), (), read)
        first, *rest = (self.tokenizer.encode_template(piece, marker) for piece in marked.split(PLACEHOLDER))
        ids = first + [i for piece in rest for i in (-1, *piece)]
        return RenderedChat(marked.replace(marker, ""), ids, tuple(images), read)

    @cached_property
    def _controls(self) -> _Controls:
        return _Controls(self.tokenizer.control_texts)

    @cached_property
    def _controls_and_images(self) -> _Controls:
        return _Controls([*self.tokenizer.control_texts, PLACEHOLDER])

    def _reader(self, prompt: str, tools: list[Any] | None) -> Callable[[Sequence[int]], ParsedAnswer] | None:
        """How the calls of an answer are read; None where there are none. The tags may be control tokens."""
        form = format_of(self.sources[self.chosen(tools)]) if tools else None
        if form is None:
            return None

        schemas = tools or []

        def read(ids: Sequence[int]) -> ParsedAnswer:
            whole, controls = self.tokenizer.decode_with_controls(ids)
            found = find_tool_calls(whole, form, schemas, prompt)
            if not found.calls:
                return ParsedAnswer(self.tokenizer.decode(ids))
            pieces = ("".join(whole[x:y] for x, y in _outside(a, b, controls)) for a, b in found.kept)
            return ParsedAnswer(said(list(pieces), found.joint).strip(), tuple(found.calls))

        return read


def _outside(begin: int, end: int, holes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What of a stretch lies outside of holes, which ascend."""
    first = bisect_left(holes, begin, key=lambda hole: hole[1])
    for a, b in holes[first:]:
        if a >= end:
            break
        yield begin, max(begin, a)
        begin = max(begin, min(b, end))
    yield begin, end


def _check(messages: Any, add_generation_prompt: Any) -> None:
    """Raise InvalidArgument for what is no conversation."""
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
        raise InvalidArgument(f"messages are a list of mappings, not {type(messages).__name__}")
    for m in messages:
        if not isinstance(m, Mapping) or not isinstance(m.get("role"), str):
            raise InvalidArgument(f"a message is a mapping with a role and a content, found {m!r:.100}")
        if not isinstance(m.get("content"), str | list | tuple | Mapping | None):
            kind = type(m["content"]).__name__
            raise InvalidArgument(f"the content of a message is a text, a list of parts or None, not {kind}")
    if not isinstance(add_generation_prompt, bool):
        raise InvalidArgument(f"add_generation_prompt is True or False, not {add_generation_prompt!r:.100}")


def _rendered(render: Callable[[list[Any]], str], messages: list[Any], n_images: int) -> str:
    """A template over messages. Where contents are lists it gets them as they are, if it can read them: each image then
    has its place, and no list was printed as Python writes it. Else it gets texts."""
    if not any(isinstance(m.get("content"), list) for m in messages):
        return render(messages)
    try:
        text = render(messages)
        if text.count(PLACEHOLDER) == n_images and not any(f"'type': '{t}'" in text for t in ("text", "image")):
            return text
    except TemplateLimit:
        raise
    except TemplateError:
        pass
    text = render(flattened(messages))
    if text.count(PLACEHOLDER) != n_images:
        raise TemplateError(f"the template shows {text.count(PLACEHOLDER)} of the {n_images} images")
    return text


def _is_template(key: str) -> bool:
    return key == KEY or (key.startswith(KEY + ".") and len(key) > len(KEY) + 1)


def _jinja(text: str, own: Mapping[str, str]) -> str:
    """A text that is meant as a template; one without a brace is a name that nobody knows."""
    if "{" in text or "\n" in text:
        return text
    known = (*own, *BUILT_IN)
    raise UnknownName("chat template", text, known, next(iter(get_close_matches(text.lower(), known)), None))


def _strings(x: Any) -> list[str]:
    if isinstance(x, str):
        return [x]
    if isinstance(x, Mapping):
        return [s for pair in x.items() for s in _strings(pair)]
    return [s for v in x for s in _strings(v)] if isinstance(x, list | tuple) else []


def _unused(*values: Any) -> str:
    """A noncharacter (U+FDD0 to U+FDEF mean nothing in any text) that none of the values holds."""
    try:
        used = set("".join(_strings(list(values))))
    except RecursionError:
        raise InvalidArgument("messages, tools or variables are nested too deeply, or contain themselves") from None
    free = [c for c in map(chr, range(0xFDD0, 0xFDF0)) if c not in used]
    if not free:
        raise InvalidArgument("the messages use every noncharacter from U+FDD0 to U+FDEF: none is left as a marker")
    return free[0]


class _Controls:
    """What a string must not hold or complete: the texts of control tokens, in any case.

    Of a text longer than EDGE its first and its last EDGE characters count, each as a text of its own: whoever has the
    whole has these. So a file's tokens of a megabyte make neither long searches nor large tables.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.firsts = {v for c in texts if c for v in (c[0], c[0].upper(), c[0].lower())}
        folded = {piece for c in texts for f in [c.casefold()] for piece in (f[:EDGE], f[-EDGE:])}
        self._all = Texts(folded)
        self._begins, self._ends = sorted(c[:-1] for c in folded), sorted(c[:0:-1] for c in folded)
        self._longest = max(map(len, folded), default=0)

    def inside(self, text: str) -> bool:
        """Whether a folded text holds one."""
        return next(self._all.found_in(text), None) is not None

    def begun(self, text: str) -> bool:
        """Whether a folded text ends with what one begins with, not the whole of it."""
        return any(_is_prefix(text[-n:], self._begins) for n in range(1, min(self._longest, len(text)) + 1))

    def ended(self, text: str) -> bool:
        """Whether a folded text begins with what one ends with, not the whole of it."""
        return any(_is_prefix(text[n - 1 :: -1], self._ends) for n in range(1, min(self._longest, len(text)) + 1))


def _is_prefix(text: str, ascending: Sequence[str]) -> bool:
    at = bisect_left(ascending, text)
    return at < len(ascending) and ascending[at].startswith(text)


class _Guard:
    """Marks the strings of messages that hold a control token's text, in any case, or a part of one at an end."""

    def __init__(self, controls: _Controls, marker: str) -> None:
        self.controls, self.marker = controls, marker

    def __call__(self, x: Any) -> Any:
        if isinstance(x, str):
            return self._mark(x)
        if isinstance(x, Mapping):
            return {self(k): self(v) for k, v in x.items()}
        if isinstance(x, list | tuple):
            return [self(v) for v in x]
        if x is None or isinstance(x, bool | int | float):
            return x
        raise InvalidArgument(f"templates take text, numbers, lists and mappings, not {type(x).__name__}")

    def _mark(self, text: str) -> str:
        folded, controls = text.casefold(), self.controls
        stripped = folded.strip()  # templates trim
        at_start = controls.ended(stripped)
        if not (at_start or controls.begun(stripped) or controls.inside(folded)):
            return text
        marked = "".join(c + self.marker if c in controls.firsts else c for c in text)
        space = len(text) - len(text.lstrip())  # is still trimmed, so the marker goes behind it
        return marked[:space] + self.marker + marked[space:] if at_start else marked
