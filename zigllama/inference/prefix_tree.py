"""Which pages hold which text: a tree over runs of PAGE token ids, so that a prefix read once is read no more.

    root -- (1, 17, 8, ...) -- (4, 4, 90, ...)          a node: PAGE tokens that follow those of its parent,
                            \\- (5, 31, 2, ...)          and per cache class the page that holds them, or -1

Keys and values at a position depend on every token up to it and on nothing else, so the path from the root names the
contents of a page exactly. Children are found by hash and compared token by token: two texts that share a hash are
still two texts (Kwon et al., 2023, arXiv 2309.06180, section 4.3; Zheng et al., 2023, "RadixAttention", arXiv
2312.07104).

What it is not: it owns no page and decides nothing about which to give up; that is `kv_cache.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from zigllama.transformers.interfaces import PAGE

Key = tuple[int, ...]
NEAR = 64  # children that are looked through for one that begins alike


class Node:
    """PAGE tokens (`key`) after those of `parent`. `users` counts the sequences that stand here."""

    __slots__ = ("children", "key", "pages", "parent", "users")

    def __init__(self, parent: Node | None, key: Key, n_classes: int) -> None:
        self.parent, self.key = parent, key
        self.children: dict[Key, Node] = {}
        self.pages = [-1] * n_classes
        self.users = 0


class PrefixTree:
    """The tree of one cache."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.root = Node(None, (), n_classes)

    def add(self, node: Node, key: Key) -> Node:
        """The child for these tokens, made where there is none."""
        child = node.children.get(key)
        if child is None:
            child = node.children[key] = Node(node, key, self.n_classes)
        return child

    def path(self, node: Node, tokens: Sequence[int], first: int) -> list[Node]:
        """The nodes below `node` that spell `tokens` from page number `first` on, as far as whole pages are known."""
        found: list[Node] = []
        for at in range(first * PAGE, len(tokens) - PAGE + 1, PAGE):
            child = node.children.get(tuple(tokens[at : at + PAGE]))
            if child is None:
                break
            found.append(child)
            node = child
        return found

    def nearest(self, node: Node, tokens: Sequence[int]) -> tuple[Node | None, int]:
        """The child that begins with the most of `tokens`, and with how many. Looks at the NEAR newest only."""
        best, most = None, 0
        for child in islice(reversed(node.children.values()), NEAR):
            n = common_prefix(child.key, tokens)
            if n > most:
                best, most = child, n
        return best, most

    def prune(self, node: Node) -> None:
        """Forget a node that holds nothing, leads nowhere and is nobody's place; then its parents likewise."""
        while node.parent is not None and not node.children and not node.users and max(node.pages) < 0:
            node.parent.children.pop(node.key, None)
            node = node.parent


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
