"""Whose rows are in the next step. A step has CHUNK rows at most, and more wish to be in it than fit.

    | a b c | d d d d d d d | e e e e e e e |      writers: a row each, always; readers: TURN rows at a time, in turns

Writers come first, since somebody reads along. While there are any, prompts get no more than SHARED rows: that is how
long a step makes the writers wait. Another reader is first each time, so that none waits for the longest prompt.

Two prompts that go on with the same page are not both run: the second sits out, and takes the page over when it is
there. A thousand questions about one document read it once.
"""

from __future__ import annotations

from zigllama.inference.engine import CHUNK
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.inference.prefix_tree import Key
from zigllama.inference.request import Request

TURN = 128  # rows of a prompt before another prompt has its turn
SHARED = 128  # rows of prompts in a step that others write in
Turns = list[tuple[Request, list[int]]]


class TurnTaking:
    """Plans one step after another for the requests of one cache."""

    def __init__(self, cache: ModelKVCache) -> None:
        self.cache, self._first = cache, 0

    def plan(self, active: list[Request]) -> Turns:
        """Who runs which tokens in the next step; nobody where all wait for their readers."""
        going = [r for r in active if not r.paused]
        writers = [r for r in going if not r.reading]
        turns = [(r, r.next_rows(CHUNK // len(writers))) for r in writers]
        if len(writers) == len(going):
            return turns
        room = min(SHARED, CHUNK - sum(len(rows) for _, rows in turns)) if turns else CHUNK
        readers = self._readers([r for r in going if r.reading])
        most = {r: min(r.n_due, r.reading_most) for r in readers}
        share = dict.fromkeys(readers, 0)
        while room and (hungry := [r for r in readers if share[r] < most[r]]):
            for r in hungry:
                rows = min(TURN, room, most[r] - share[r])
                share[r], room = share[r] + rows, room - rows
        return turns + [(r, r.next_rows(n)) for r, n in share.items() if n]

    def _readers(self, everybody: list[Request]) -> list[Request]:
        """In the order of their turns, with the pages that others have made; without those who sit out."""
        self._first += 1
        first = self._first % len(everybody)
        readers, in_the_making = [], set[tuple[int, Key]]()
        for r in everybody[first:] + everybody[:first]:
            assert r.sequence is not None
            if r.adopt:
                before = r.sequence.length
                r.cached += max(0, min(self.cache.adopt(r.sequence, r.tokens), r.n_prompt) - before)
            page = (id(r.sequence.node), r.next_page())
            if r.adopt and page[1] and page in in_the_making:
                continue
            in_the_making.add(page)
            readers.append(r)
        return readers
