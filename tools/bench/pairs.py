"""The method: figures of ours and of a peer count as the ratio of two taken side by side, with the memory's speed read
beside each.

    probe  ours  probe  peer  probe      one pair; the next one begins with the peer
    1. everyone runs once and is forgotten: page cache, processor clocks
    2. every peer runs three times; those near the fastest stay (medians within CLOSE, of decoding by speed per probe)
    3. pairs of ours with each of those, until `n` are kept; the best peer is the one with the lowest ratio

A pair whose probes differ by more than TOLERANCE is dropped where the memory decides: the machine changed in between.
On a machine that never rests few are left; then what all pairs say is kept beside it, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.contestants import Contestant, Job
from zigllama.app.comparison import Figure as Figure
from zigllama.app.comparison import Interval, Turns, bootstrap
from zigllama.app.comparison import Pair as Pair

CLOSE = 0.95
SCOUTS = 3  # so that a disturbed one decides nothing


class Bench(Turns):
    """Measures contestants with a probe between any two runs."""

    def figure(self, who: Contestant, job: Job) -> Figure:
        """One run."""
        return self.take(lambda: who.run(job))

    def scout(self, peers: Sequence[Contestant], job: Job) -> list[Contestant]:
        """Peers whose median is within CLOSE of the fastest one's."""
        figures: dict[str, list[float]] = {peer.name: [] for peer in peers}
        for _ in range(SCOUTS):
            for peer in peers:
                f = self.figure(peer, job)
                figures[peer.name].append(f.speed / f.probe if job.row.memory_bound else f.speed)
                self._say(f"scouting {peer.name}: {f.speed:.1f} t/s beside {f.probe:.1f} GB/s")
        best = max(median(values) for values in figures.values())
        return [peer for peer in peers if median(figures[peer.name]) >= CLOSE * best]

    def pairs(
        self, ours: Contestant, theirs: Contestant, job: Job, n: int, tries: int | None = None
    ) -> tuple[list[Pair], list[Pair]]:
        """Pairs that are kept, n of them unless patience ends, and those that were dropped."""
        drop = job.row.memory_bound
        return self.in_turn(lambda: ours.run(job), lambda: theirs.run(job), n, drop=drop, name=theirs.name, tries=tries)

    def compare(
        self, ours: Contestant, peers: Sequence[Contestant], job: Job, n: int, tries: int | None = None
    ) -> dict[str, Any]:
        """The whole method for a row; what is kept as JSON. Without peers: ours alone, n times."""
        for who in (ours, *peers):
            who.run(job)
        self.begin()
        if not peers:
            alone = [self.figure(ours, job) for _ in range(n)]
            speeds = [f.speed for f in alone]
            per_probe = median(f.speed / f.probe for f in alone)
            probe = median(f.probe for f in alone)
            return {"ours": median(speeds), "probe": probe, "ours_per_probe": per_probe, "samples": speeds}
        chosen = self.scout(peers, job) if len(peers) > 1 else list(peers)
        all_kept: dict[str, list[Pair]] = {}
        all_pairs: dict[str, list[Pair]] = {}
        results: dict[str, Any] = {}
        ratios: dict[str, Interval] = {}
        of_all: dict[str, Interval] = {}
        for peer in chosen:
            kept, dropped = self.pairs(ours, peer, job, n, tries)
            of_all[peer.name] = bootstrap([p.ratio for p in kept + dropped])
            all_pairs[peer.name] = kept + dropped
            results[peer.name] = {"kept": [p.to_json() for p in kept], "dropped": [p.to_json() for p in dropped]}
            if kept:
                all_kept[peer.name] = kept
                ratios[peer.name] = bootstrap([p.ratio for p in kept])
        best = min(ratios or of_all, key=lambda name: (ratios or of_all)[name].median)
        pairs = all_kept.get(best) or all_pairs[best]
        return {
            "ours": median(p.ours.speed for p in pairs),
            "theirs": median(p.theirs.speed for p in pairs),
            "probe": median(p.ours.probe for p in pairs),
            "ours_per_probe": median(p.ours.speed / p.ours.probe for p in pairs),
            "best_peer": best,
            "n_pairs": len(all_kept.get(best, ())),
            "ratio": ratios.get(best, of_all[best]).to_json(),
            "n_all": len(all_pairs[best]),
            "ratio_of_all": of_all[best].to_json(),
            "ratios": {name: ratio.to_json() for name, ratio in ratios.items()},
            "pairs": results,
        }
