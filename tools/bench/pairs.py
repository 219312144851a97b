"""The method: figures of ours and of a peer count as the ratio of two taken side by side, with the memory's speed read
beside each.

    probe  ours  probe  peer  probe      one pair; the next one begins with the peer
    1. everyone runs once and is forgotten: page cache, processor clocks
    2. every peer runs three times; those near the fastest stay (medians within CLOSE, of decoding by speed per probe)
    3. pairs of ours with each of those, until `n` are kept; the best peer is the one with the lowest ratio

A pair whose probes differ by more than TOLERANCE is dropped where the memory decides: the machine changed in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.contestants import Contestant, Job
from bench.summary import Interval, bootstrap

TOLERANCE = 1.10
CLOSE = 0.95
SCOUTS = 3  # so that a disturbed one decides nothing
PATIENCE = 3  # times the pairs wanted that are tried at most

Probe = Callable[[], float]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Figure:
    """Tokens per second, and GB/s read just before and after."""

    speed: float
    before: float
    after: float

    @property
    def probe(self) -> float:
        """The mean of the two."""
        return (self.before + self.after) / 2


@dataclass(frozen=True)
class Pair:
    """Two figures taken one after the other."""

    ours: Figure
    theirs: Figure

    @property
    def ratio(self) -> float:
        """Ours by theirs."""
        return self.ours.speed / self.theirs.speed

    @property
    def drift(self) -> float:
        """By how much its three probes differ: the largest by the smallest."""
        probes = (self.ours.before, self.ours.after, self.theirs.before, self.theirs.after)
        return max(probes) / min(probes)

    def to_json(self) -> list[float]:
        """[ours, theirs, probe beside ours, probe beside theirs]."""
        return [self.ours.speed, self.theirs.speed, self.ours.probe, self.theirs.probe]


class Bench:
    """Measures with a probe between any two runs."""

    def __init__(self, probe: Probe, say: Say) -> None:
        self._probe, self._say = probe, say
        self._last = 0.0

    def begin(self) -> None:
        """The probe before the first run."""
        self._last = self._probe()

    def figure(self, who: Contestant, job: Job) -> Figure:
        """One run. The probe after it is the one before the next."""
        before, speed = self._last, who.run(job)
        self._last = self._probe()
        return Figure(speed, before, self._last)

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

    def pairs(self, ours: Contestant, theirs: Contestant, job: Job, n: int) -> tuple[list[Pair], list[Pair]]:
        """Pairs that are kept, n of them unless patience ends, and those that were dropped."""
        kept: list[Pair] = []
        dropped: list[Pair] = []
        for turn in range(PATIENCE * n):
            if len(kept) == n:
                break
            if turn % 2:
                theirs_figure = self.figure(theirs, job)
                pair = Pair(self.figure(ours, job), theirs_figure)
            else:
                pair = Pair(self.figure(ours, job), self.figure(theirs, job))
            fine = not job.row.memory_bound or pair.drift <= TOLERANCE
            (kept if fine else dropped).append(pair)
            self._say(
                f"{pair.ours.speed:8.1f} to {pair.theirs.speed:8.1f} ({theirs.name}): {pair.ratio:.3f} beside "
                f"{pair.ours.probe:.1f} and {pair.theirs.probe:.1f} GB/s{'' if fine else ', dropped'}"
            )
        return kept, dropped

    def compare(self, ours: Contestant, peers: Sequence[Contestant], job: Job, n: int) -> dict[str, Any]:
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
        results: dict[str, Any] = {}
        ratios: dict[str, Interval] = {}
        for peer in chosen:
            kept, dropped = self.pairs(ours, peer, job, n)
            results[peer.name] = {"kept": [p.to_json() for p in kept], "dropped": [p.to_json() for p in dropped]}
            if kept:
                all_kept[peer.name] = kept
                ratios[peer.name] = bootstrap([p.ratio for p in kept])
        if not ratios:
            raise SystemExit(f"{job.row.name}: all pairs were dropped; the machine is too restless to measure on")
        best = min(ratios, key=lambda name: ratios[name].median)
        return {
            "ours": median(p.ours.speed for p in all_kept[best]),
            "theirs": median(p.theirs.speed for p in all_kept[best]),
            "probe": median(p.ours.probe for p in all_kept[best]),
            "ours_per_probe": median(p.ours.speed / p.ours.probe for p in all_kept[best]),
            "best_peer": best,
            "n_pairs": len(all_kept[best]),
            "ratio": ratios[best].to_json(),
            "ratios": {name: ratio.to_json() for name, ratio in ratios.items()},
            "pairs": results,
        }
