"""Keywords of a wrong type: an error that names the keyword and the value, from every way to ask for an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import small_models

import zigllama as zl
from zigllama.errors import InvalidArgument
from zigllama.inference import keyword_types
from zigllama.inference.sampling import SamplingParams

PROMPT = [5, 17, 99, 23, 42]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"top_k": "5"}, "top_k is '5'"),
    ({"top_k": 2.5}, "top_k is 2.5"),
    ({"top_k": True}, "top_k is True"),
    ({"seed": 1.5}, "seed is 1.5"),
    ({"seed": True}, "seed is True"),
    ({"seed": "7"}, "seed is '7'"),
    ({"temperature": "hot"}, "temperature is 'hot'"),
    ({"temperature": True}, "temperature is True"),
    ({"temperature": [0.5]}, "temperature is [0.5]"),
    ({"min_p": 10**400}, "min_p is 1000"),
    ({"top_p": b"1"}, "top_p is b'1'"),
    ({"logit_bias": {"a": 1.0}}, "logit_bias is 'a'"),
    ({"logit_bias": {5.5: 1.0}}, "logit_bias is 5.5"),
    ({"logit_bias": {5: "a"}}, "logit_bias of token 5 is 'a'"),
    ({"logit_bias": 5}, "logit_bias is 5"),
    ({"logit_bias": [(5, 1.0)]}, "logit_bias is [(5, 1.0)]"),
    ({"stop": 5}, "stop is 5"),
    ({"stop": [5]}, "stop is 5"),
    ({"stop": ["a", b"b"]}, "stop is b'b'"),
    ({"stop": b"ab"}, "stop is b'ab'"),
    ({"max_tokens": "3"}, "max_tokens is '3'"),
    ({"max_tokens": 2.5}, "max_tokens is 2.5"),
    ({"ignore_eos": "no"}, "ignore_eos is 'no'"),
    ({"forced": 1}, "forced is 1"),
    ({"logprobs": 3}, "logprobs is 3"),
    ({"explain": "yes"}, "explain is 'yes'"),
    ({"num_beams": 2.0}, "num_beams is 2.0"),
    ({"mirostat_mode": "1"}, "mirostat_mode is '1'"),
    ({"mirostat_mode": 1.0}, "mirostat_mode is 1.0"),
    ({"deadline": "x"}, "deadline is 'x'"),
    ({"deadline": float("nan")}, "deadline is nan"),
    ({"lookup": "x"}, "lookup is 'x'"),
    ({"lookup": 2.5}, "lookup is 2.5"),
    ({"reuse": "x"}, "reuse is 'x'"),
    ({"negative_prompt": 5, "guidance_scale": 2.0}, "negative_prompt is 5"),
    ({"negative_prompt": [1.5], "guidance_scale": 2.0}, "negative_prompt is 1.5"),
    ({"guidance_scale": "2"}, "guidance_scale is '2'"),
    ({"dry_sequence_breakers": [5], "dry_multiplier": 1.0}, "dry_sequence_breakers is 5"),
    ({"dry_sequence_breakers": 5}, "dry_sequence_breakers is 5"),
    ({"logits_processor": 3}, "logits_processor is 3"),
    ({"regex": 5}, "regex is 5"),
    ({"gbnf": b"root ::= 1"}, "gbnf is b'root"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zl.Model]:
    with zl.Model(small_models.build("llama-f32", tmp_path_factory.mktemp("small")), n_ctx=64) as m:
        yield m


ASK: dict[str, Callable[..., Any]] = {
    "generate": lambda m, **o: m.generate(PROMPT, **o),
    "stream": lambda m, **o: next(m.generate(PROMPT, stream=True, **o)),
    "submit": lambda m, **o: m.submit(PROMPT, **o).result(60),
    "generate_batch": lambda m, **o: m.generate_batch([PROMPT, PROMPT], **o),
    "chat": lambda m, **o: m.chat("hi", template="{% for m in messages %}{{ m.content }}{% endfor %}", **o),
    "session": lambda m, **o: _said(m, **o),
}


def _said(model: zl.Model, **options: Any) -> Any:
    with model.session() as session:
        return session.chat("hi", template="{% for m in messages %}{{ m.content }}{% endfor %}", **options)


@pytest.mark.parametrize("ask", ASK)
def test_the_keyword_and_the_value_are_named(model: zl.Model, ask: str) -> None:
    for options, said in WRONG:
        with pytest.raises(InvalidArgument, match=re.escape(said) + ".*want"):
            ASK[ask](model, **{"max_tokens": 1, **options})
    with pytest.raises(InvalidArgument, match="stream is 'no'"):
        model.generate(PROMPT, stream="no", max_tokens=1)  # type: ignore[call-overload]
    assert not model.scheduler.active and not model.scheduler.waiting


def test_what_is_a_number_is_taken(model: zl.Model) -> None:
    """NumPy's numbers, and whole numbers where any number will do; None is the default."""
    plain = model.generate(PROMPT, max_tokens=5, temperature=0.5, top_k=5, seed=3, logit_bias={5: 1.0})
    same = model.generate(
        PROMPT,
        max_tokens=np.int32(5),
        temperature=np.float32(0.5),
        top_k=np.int64(5),
        seed=np.uint64(3),
        logit_bias={np.int64(5): np.float16(1)},
        top_p=None,
        ignore_eos=np.bool_(False),
        stop=None,
        logprobs=None,
        deadline=600,
        lookup=np.int64(4),
    )
    assert same.token_ids == plain.token_ids
    given: dict[str, Any] = {"temperature": 1, "top_k": np.int64(5), "logit_bias": {np.int64(3): 1}}
    p = SamplingParams(**given)
    assert type(p.temperature) is float and type(p.top_k) is int and {type(i) for i in p.logit_bias} == {int}
    assert SamplingParams(dry_sequence_breakers=["a"]).dry_sequence_breakers == ("a",)


def test_long_values_are_shown_in_part() -> None:
    with pytest.raises(InvalidArgument) as caught:
        keyword_types.as_int("seed", "x" * 10_000)
    assert len(str(caught.value)) < 200
