"""Generation: one token after another, until something says stop; and the tokens as text.

What it is not: it runs nothing. It is handed rows of logits, one by one, and says what they were read as; who runs the
model, and for how many at once, is batching.py's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.advanced_sampling import AdvancedSampler, Kept, Mask, TokenLogprobs
from zigllama.inference.penalties import breaker_tokens
from zigllama.inference.row_scan import RowScan
from zigllama.inference.sampling import Best, SamplingParams
from zigllama.models.tokenizer import StreamDecoder, Tokenizer

if TYPE_CHECKING:
    from zigllama.inference.grammar_constraints import GrammarConstraint
    from zigllama.models.tool_call_parts import ParsedAnswer, ToolCall


class Event(NamedTuple):
    """A piece of a stream: whole UTF-8, "" where a character is not finished or a stop string may have begun."""

    text: str
    token_id: int


@dataclass
class Result:
    """What was generated, and how.

    finish_reason   "stop" (end token or stop string), "length" (max_tokens, or the context is full), "cancelled",
                    "deadline"
    usage           prompt_tokens, cached_tokens (of the prompt, and not read again), completion_tokens
    timings         prefill_s, decode_s, prefill_tps, decode_tps (seconds; tokens per second)
    truncated       whether the prompt was cut: never, unless asked for
    fingerprint     what the bits depend on: ISA variant, cache type, how float weights are computed, BLAS library
    read            how calls are read out of the ids of an answer; of a chat with tools only
    logprobs        with logprobs=True or top_logprobs=n: per token its log-probability, and the n likeliest
    explain         with explain=True: per step, the end token's included, what each stage of the sampler kept
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    usage: dict[str, int]
    timings: dict[str, float]
    truncated: bool
    fingerprint: str
    sampling: SamplingParams = field(repr=False)
    seed: int = 0
    read: Callable[[Sequence[int]], ParsedAnswer] | None = field(default=None, repr=False, compare=False)
    logprobs: list[TokenLogprobs] | None = field(default=None, repr=False)
    explain: list[list[Kept]] | None = field(default=None, repr=False)

    @cached_property
    def answer(self) -> ParsedAnswer:
        """The text without tool calls, and the calls."""
        from zigllama.models.tool_call_parts import ParsedAnswer  # a first token does not wait for it

        return ParsedAnswer(self.text) if self.read is None else self.read(self.token_ids)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of tools that the model asks for; none where the chat was given no tools. Of an answer that was cut
        (finish_reason "length") those that are complete."""
        return self.answer.calls

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message, to go on with: {"role": "assistant", "content": .., "tool_calls": [..]}."""
        if not self.tool_calls:
            return {"role": "assistant", "content": self.text}
        calls = [c.message() for c in self.tool_calls]
        return {"role": "assistant", "content": self.answer.text, "tool_calls": calls}


class Stopper:
    """Finds stop strings in a stream: text that may be the beginning of one is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = [s for s in stop if s]
        self.held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Text that is certain not to belong to a stop string; `found` is set when one is complete."""
        self.held += text
        ends = [(at, s) for s in self.stop if (at := self.held.find(s)) >= 0]
        if ends:
            self.found = True
            out, self.held = self.held[: min(at for at, _ in ends)], ""
            return out
        keep = max((_overlap(self.held, s) for s in self.stop), default=0)
        out, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return out

    def flush(self) -> str:
        """What was held back, when the stream ends without a stop string."""
        out, self.held = self.held, ""
        return out


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class TextGenerator:
    """One answer as it is written: `take` a row of logits after another until `finish_reason` says why it ended.

    max_tokens   None: until the context of `n_ctx` positions is full
    ignore_eos   go on past end tokens
    scan         who passes over whole rows of logits, see AdvancedSampler
    constraint   what it must look like: it ends where nothing may follow, and is looked at once more when it is whole

    Raises InvalidArgument; `take` and `accept` also NoTokenAllowed, GrammarBudget, GrammarRefused.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        params: SamplingParams,
        n_ctx: int,
        *,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        scan: RowScan | None = None,
        constraint: GrammarConstraint | None = None,
    ) -> None:
        if max_tokens is not None and max_tokens < 0:
            raise InvalidArgument(f"max_tokens is {max_tokens}, want >= 0 or None")
        self.n_ctx, self.max_tokens, self.ignore_eos = n_ctx, max_tokens, ignore_eos
        breakers = breaker_tokens(tokenizer, params.dry_sequence_breakers) if params.dry_multiplier else None
        self.sampler = AdvancedSampler(params, scan=scan, breakers=breakers)
        self.constraint = constraint
        self.token_ids: list[int] = []
        self.finish_reason: str | None = None
        self._tokenizer = tokenizer
        self._decoder, self._stopper = StreamDecoder(tokenizer), Stopper(stop)
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self._pieces)

    @property
    def logprobs(self) -> list[TokenLogprobs] | None:
        """Those of `token_ids`, where they are asked for."""
        p = self.sampler.params
        return self.sampler.logprobs[: len(self.token_ids)] if p.logprobs or p.top_logprobs else None

    @property
    def explained(self) -> list[list[Kept]] | None:
        """What each stage kept, per step, where it is asked for."""
        return self.sampler.explained if self.sampler.params.explain else None

    def take(self, logits: F32, history: Sequence[int], best: Best = None, mask: Mask = None) -> list[Event]:
        """What follows `history`, by its logits (V,): a token at most. It is in `token_ids`, unless it says end.

        `best`: the largest logits with their ids, where they are known; `mask`: the tokens that are allowed. See
        AdvancedSampler.
        """
        if self.max_tokens is not None and len(self.token_ids) >= self.max_tokens:
            return self.end("length")
        if self.constraint is not None:
            if self.constraint.complete:
                return self.end("stop")
            mask = self.constraint.allowed()[0]
        return self.accept(self.sampler(logits, history, len(history), best, mask), history)

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end it."""
        return frozenset() if self.ignore_eos else self._tokenizer.end_ids

    def accept(self, token: int, history: Sequence[int]) -> list[Event]:
        """A token that was chosen to follow `history`."""
        if not self.ignore_eos and token in self._tokenizer.end_ids:
            return self.end("stop")
        if self.constraint is not None:
            self.constraint.accept(token)
        self.token_ids.append(token)
        events = [self._say(self._stopper.push(self._decoder.push(token)), token)]
        if self._stopper.found:
            self.finish_reason = "stop"
        elif self.constraint is not None and self.constraint.complete:
            events += self.end("stop")
        elif len(self.token_ids) == self.max_tokens or len(history) >= self.n_ctx:
            events += self.end("length")
        return events

    def end(self, reason: str) -> list[Event]:
        """It ends here: what was held back."""
        self.finish_reason = reason
        rest = self._stopper.push(self._decoder.flush())
        rest += "" if self._stopper.found else self._stopper.flush()
        events = [self._say(rest, -1)] if rest else []
        if self.constraint is not None and reason == "stop" and not self._stopper.found:
            self.constraint.grammar.check(self.text)
        return events

    def _say(self, text: str, token: int) -> Event:
        self._pieces.append(text)
        return Event(text, token)
