"""What a reader of JSON Schemas may be told: which draft, which documents it may refer to, how strictly it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zigllama.errors import InvalidArgument

DRAFTS = (4, 6, 7, 2019, 2020)

Json = Any  # None, bool, int, float, Decimal, str, list, dict


@dataclass(frozen=True)
class Options:
    """All of them with their defaults.

    draft       of a schema without "$schema": 4, 6, 7, 2019 or 2020
    documents   URI -> schema: what "$ref" may lead to beside the schema itself and the metaschemas. Nothing is fetched
    formats     True: "format" is asserted, and one that is not known refused. False: a mere annotation
    writing     True: a language model writes under the machine. Numbers with bounds have no exponent, escapes are those
                that are needed, whitespace is bounded, no state is made that could not be finished. False: any spelling
                that JSON has is accepted
    whitespace  when writing: how many characters of it may stand between two tokens; -1: any number, whoever writes
                counts them
    digits      when writing: how many digits a number that something is asked of may have, unless its bounds have more
    depth       how deep schemas and values in them may be nested
    in_place    how many schemas may stand in place of one another (through $ref, allOf and so on)
    """

    draft: int = 2020
    documents: Mapping[str, Json] = field(default_factory=dict)
    formats: bool = False
    writing: bool = True
    whitespace: int = 24
    digits: int = 15
    depth: int = 200
    in_place: int = 80

    def __post_init__(self) -> None:
        if type(self.draft) is not int or self.draft not in DRAFTS:
            known = ", ".join(map(str, DRAFTS))
            raise InvalidArgument(
                f"draft is {self.draft!r:.60}; known are {known} (2019-09 and 2020-12 by their years)"
            )
        for name, least in (("whitespace", -1), ("digits", 1), ("depth", 1), ("in_place", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise InvalidArgument(f"{name} is {value!r:.60}, want a whole number from {least} on")
