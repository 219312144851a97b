"""`ChatTemplates`: from messages to the text and the token ids that a model was trained on.

A model's file carries its template, a Jinja program; it runs in a sandbox with a budget (template_sandbox.py). The
template's own text may become control tokens (`<|im_start|>`), but never what a user wrote: where a message holds the
text of a control token, or could complete one together with the text around it, a marker character is put behind its
first letters before the template sees it. A marked text is no control token's any more; the marker is taken out again
when the control tokens have been cut out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import jinja2

from zigllama.errors import InvalidArgument, TemplateError, TemplateLimit, TemplateMissing
from zigllama.models.image_parts import PLACEHOLDER, flattened, taken_out
from zigllama.models.template_sandbox import Sandbox
from zigllama.models.tokenizer import Tokenizer

MAX_TEMPLATE = 1 << 20  # characters

BUILT_IN = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' "
        "+ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "gemma": (
        "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' "
        "else message['role']) + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
}


@dataclass(frozen=True)
class RenderedChat:
    """A rendered conversation: its text, and its token ids, to be used as they are (nothing is added).

    `images`: those of its messages, in order; each stands as `<image>` in the text and as -1 among the ids.
    """

    text: str
    ids: list[int]
    images: tuple[Any, ...] = ()


class ChatTemplates:
    """A chat template bound to a tokenizer. Raises TemplateError for a template that does not compile."""

    def __init__(self, source: str, tokenizer: Tokenizer, variables: Mapping[str, str] | None = None) -> None:
        if len(source) > MAX_TEMPLATE:
            raise TemplateError(f"a chat template of {len(source)} characters; at most {MAX_TEMPLATE} are read")
        self.source, self.tokenizer = source, tokenizer
        self._variables = dict(variables or {})
        self._sandbox = Sandbox()
        try:
            self._template = self._sandbox.from_string(source)
        except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as e:
            raise TemplateError(f"chat template does not compile: {type(e).__name__}: {e}") from None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], tokenizer: Tokenizer, template: str | None = None) -> Self:
        """The file's template; or `template`, a built-in one by name or Jinja text. Raises TemplateMissing."""
        source = template if template is not None else metadata.get("tokenizer.chat_template")
        if source is None:
            raise TemplateMissing(
                f"the model has no chat template; pass one by name ({', '.join(BUILT_IN)}) or as Jinja text"
            )
        if not isinstance(source, str):
            raise TemplateError(f"the chat template is no text but {type(source).__name__}")

        def text(id: int | None) -> str:
            return "" if id is None else tokenizer.piece(id).decode("utf-8", "replace")

        variables = {"bos_token": text(tokenizer.bos_id), "eos_token": text(tokenizer.eos_id)}
        return cls(BUILT_IN.get(source, source), tokenizer, variables)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> RenderedChat:
        """Messages ({"role": .., "content": ..}) -> text and ids. A content is a text, or a list of parts, some of
        which may be images (image_parts.py). Raises TemplateError, TemplateLimit, InvalidArgument."""
        for m in messages:
            if not isinstance(m, Mapping) or not isinstance(m.get("role"), str):
                raise InvalidArgument(f"a message is a mapping with a role and a content, found {m!r:.100}")
        messages, images = taken_out(messages)
        marker = _unused(messages, tools)
        guard = _Guard([*self.tokenizer.control_texts, *([PLACEHOLDER] if images else [])], marker)
        variables = self._variables | {
            "tools": None if tools is None else guard(list(tools)),
            "add_generation_prompt": add_generation_prompt,
        }
        marked = self._rendered(guard(messages), variables, len(images))
        if not images:
            return RenderedChat(marked.replace(marker, ""), self.tokenizer.encode_template(marked, marker))
        first, *rest = (self.tokenizer.encode_template(piece, marker) for piece in marked.split(PLACEHOLDER))
        ids = first + [i for piece in rest for i in (-1, *piece)]
        return RenderedChat(marked.replace(marker, ""), ids, tuple(images))

    def _rendered(self, messages: list[Any], variables: Mapping[str, Any], n_images: int) -> str:
        """The template over messages. Where contents are lists it gets them as they are, if it can read them: each
        image then has its place, and no list was printed as Python writes it. Else it gets texts."""

        def render(shown: list[Any]) -> str:
            return self._sandbox.render_bounded(self._template, {**variables, "messages": shown})

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


def _strings(x: Any) -> list[str]:
    if isinstance(x, str):
        return [x]
    if isinstance(x, Mapping):
        return [s for v in x.values() for s in _strings(v)]
    return [s for v in x for s in _strings(v)] if isinstance(x, list | tuple) else []


def _unused(*values: Any) -> str:
    """A noncharacter (U+FDD0 to U+FDEF mean nothing in any text) that none of the values holds."""
    used = set("".join(_strings(list(values))))
    free = [c for c in map(chr, range(0xFDD0, 0xFDF0)) if c not in used]
    if not free:
        raise InvalidArgument("the messages use every noncharacter from U+FDD0 to U+FDEF: none is left as a marker")
    return free[0]


class _Guard:
    """Marks the strings of messages that hold a control token's text, in any case, or a part of one at an end."""

    def __init__(self, controls: Sequence[str], marker: str) -> None:
        self.controls = [c.casefold() for c in controls if c]
        self.firsts = {v for c in controls if c for v in (c[0], c[0].upper(), c[0].lower())}
        self.edges = (
            {c[:n] for c in self.controls for n in range(1, len(c))},
            {c[n:] for c in self.controls for n in range(1, len(c))},
        )
        self.longest = max(map(len, self.controls), default=0)
        self.marker = marker

    def __call__(self, x: Any) -> Any:
        if isinstance(x, str):
            return self._mark(x)
        if isinstance(x, Mapping):
            return {k: self(v) for k, v in x.items()}
        return [self(v) for v in x] if isinstance(x, list | tuple) else x

    def _mark(self, text: str) -> str:
        folded = text.casefold()
        begins, ends = self.edges
        inside = any(c in folded for c in self.controls)
        stripped = folded.strip()  # templates trim
        at_end = any(stripped[-n:] in begins for n in range(1, min(self.longest, len(stripped)) + 1))
        at_start = any(stripped[:n] in ends for n in range(1, min(self.longest, len(stripped)) + 1))
        if not (inside or at_end or at_start):
            return text
        marked = "".join(c + self.marker if c in self.firsts else c for c in text)
        return self.marker + marked if at_start else marked
