"""Prompt lookup: a guess of what comes next that costs no model. What has been written before is often written again.

    ... for i in range ( n ) : ... | for i in range -> ( n ) :

The last few tokens are looked up in all that came before; what followed them there is the draft. It is fed with the
last token in one step of several rows, which reads the weights once, and every row is sampled as if it were alone: with
its own position's random numbers. As long as row i gives what row i + 1 was fed, that row is right too; the first that
differs gives the token, and the rows after it are forgotten. So the tokens are those without a draft, greedy or not,
and only the number of steps changes (Saxena, 2023; Leviathan et al., 2023, arXiv 2211.17192).

It can cost: a step of 8 rows takes longer than a step of one, and a guess can be wrong. So it is off unless asked for.
"""

from __future__ import annotations

from zigllama.errors import InvalidArgument

DRAFT = 7  # tokens of a draft: with the last token a step of 8 rows, a whole tile of the kernels
LONGEST, SHORTEST = 3, 2  # tokens that must have been written before


class PromptLookup:
    """Drafts for one sequence of up to `n` tokens; `n` is 1 to 31. Raises InvalidArgument."""

    def __init__(self, n: int = DRAFT) -> None:
        if not 1 <= n <= 31:
            raise InvalidArgument(f"lookup is {n}, want a draft of 1 to 31 tokens")
        self.n = n
        self._after: dict[tuple[int, ...], int] = {}  # tokens -> where what followed them last begins
        self._seen = 0

    def draft(self, tokens: list[int], most: int) -> list[int]:
        """What may follow `tokens`, at most `most` of it. The same list is passed each time, and only ever grows."""
        for end in range(self._seen + 1, len(tokens)):  # not the last: nothing follows it yet
            for length in range(SHORTEST, LONGEST + 1):
                if length <= end:
                    self._after[tuple(tokens[end - length : end])] = end
        self._seen = max(self._seen, len(tokens) - 1)
        for length in range(LONGEST, SHORTEST - 1, -1):
            at = self._after.get(tuple(tokens[-length:]))
            if at is not None:
                draft = tokens[at : at + min(self.n, most)]
                return draft[: next((i for i, token in enumerate(draft) if token < 0), len(draft))]  # up to an image
        return []
