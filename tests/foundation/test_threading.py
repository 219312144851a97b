"""Topology, the default number of threads, placement and the pool, on trees of files that present other machines."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import ClosedError, InvalidArgument, ISAUnavailable, NativeError, UnknownName
from zigllama.foundation import native, native_numa
from zigllama.foundation.native_context import NativeContext, alloc_array
from zigllama.foundation.native_weights import NativeWeight
from zigllama.foundation.threading import (
    MAX_THREADS,
    ThreadPool,
    ThreadPoolConfig,
    default_threads,
    placed_context,
    placement,
)
from zigllama.foundation.topology import Topology, cgroup_quota, parse_cpu_list, topology


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def ranges(cpus: list[int]) -> str:
    return ",".join(str(c) for c in cpus)


def machine(root: Path, n_nodes: int, cores_per_node: int, smt: int) -> Path:
    """Linux's numbering: first siblings of all cores first, node by node; then all second siblings."""
    n_cores = n_nodes * cores_per_node
    files = {"sys/devices/system/cpu/online": f"0-{n_cores * smt - 1}"}
    for core in range(n_cores):
        siblings = [core + k * n_cores for k in range(smt)]
        for cpu in siblings:
            files[f"sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"] = ranges(siblings)
    for node in range(n_nodes):
        own = [c + k * n_cores for k in range(smt) for c in range(node * cores_per_node, (node + 1) * cores_per_node)]
        files[f"sys/devices/system/node/node{node}/cpulist"] = ranges(sorted(own))
    write(root, files)
    return root


# --- CPU lists --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", [0]),
        ("0-3,8,10-11\n", [0, 1, 2, 3, 8, 10, 11]),
        ("", []),
        ("\n", []),
        ("3,1", [1, 3]),
        ("1-1,1", [1]),
        ("5-3,7", [7]),
        ("x,2", [2]),
        ("-1,2", [2]),
        ("0-99999999999", []),
        ("0-9999999", []),
        ("٣,4", [4]),
    ],
)
def test_cpu_lists(text: str, cpus: list[int]) -> None:
    assert parse_cpu_list(text) == cpus


@given(st.sets(st.integers(0, 3000)))
def test_cpu_lists_round_trip(cpus: set[int]) -> None:
    assert parse_cpu_list(ranges(list(cpus))) == sorted(cpus)


@given(st.text(max_size=60))
def test_cpu_lists_never_raise(text: str) -> None:
    assert all(cpu >= 0 for cpu in parse_cpu_list(text))


# --- topology ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_nodes", "cores", "smt"), [(1, 2, 1), (1, 4, 2), (2, 4, 2), (4, 2, 1), (4, 8, 2)])
def test_a_machine_is_read(tmp_path: Path, n_nodes: int, cores: int, smt: int) -> None:
    n = n_nodes * cores
    m = topology(machine(tmp_path, n_nodes, cores, smt), affinity=range(n * smt))
    assert m.online == n * smt
    assert m.cpus == tuple(range(n * smt))
    assert m.cores == tuple(tuple(c + k * n for k in range(smt)) for c in range(n))
    assert len(m.nodes) == n_nodes
    assert all(len(node) == cores * smt for node in m.nodes)
    assert [m.node_of(c) for c in range(n)] == [c // cores for c in range(n)]
    assert m.quota is None
    assert default_threads(m, {}).n_threads == n


def test_affinity_leaves_cores_and_nodes_out(tmp_path: Path) -> None:
    root = machine(tmp_path, 2, 4, 2)  # cores (0,8) .. (7,15); node 1 has 4..7 and 12..15
    m = topology(root, affinity={5, 13, 14})
    assert m.cores == ((5, 13), (14,))
    assert m.nodes == ((5, 13, 14),)
    choice = default_threads(m, {})
    assert choice.n_threads == 2
    assert choice.reason == "2 physical cores (3 of 16 CPUs allowed), no control group quota"


def test_offline_cpus_are_left_out(tmp_path: Path) -> None:
    root = machine(tmp_path, 1, 4, 1)
    write(root, {"sys/devices/system/cpu/online": "0,2-3"})
    m = topology(root, affinity=range(4))
    assert m.cpus == (0, 2, 3)
    assert m.online == 3


def test_old_kernels_name_siblings_differently(tmp_path: Path) -> None:
    files = {"sys/devices/system/cpu/online": "0-3"}
    files |= {f"sys/devices/system/cpu/cpu{c}/topology/thread_siblings_list": f"{c % 2},{c % 2 + 2}" for c in range(4)}
    write(tmp_path, files)
    assert topology(tmp_path, affinity=range(4)).cores == ((0, 2), (1, 3))


def test_without_sysfs_every_cpu_is_a_core(tmp_path: Path) -> None:
    m = topology(tmp_path, affinity={0, 1, 5})
    assert m.cores == ((0,), (1,), (5,))
    assert m.nodes == ((0, 1, 5),)
    assert m.online == 3


def test_nonsense_in_sysfs_is_ignored(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "sys/devices/system/cpu/online": "zero to three",
            "sys/devices/system/cpu/cpu0/topology/core_cpus_list": "1-2",  # does not even name itself
            "sys/devices/system/node/node0/cpulist": "7-9",
            "sys/devices/system/node/nodeX/cpulist": "0",
            "sys/devices/system/node/node1/cpulist": "1,1,1",
        },
    )
    m = topology(tmp_path, affinity={0, 1})
    assert m.cores == ((0,), (1,))
    assert m.nodes == ((0, 1),)  # CPU 0 belongs to no node that is named: it goes to the first


def test_this_machine() -> None:
    m = topology()
    assert set(m.cpus) <= set(os.sched_getaffinity(0))
    assert 1 <= len(m.cores) <= len(m.cpus)
    assert sorted(c for node in m.nodes for c in node) == list(m.cpus)
    assert 1 <= default_threads(m, {}).n_threads <= len(m.cores)


# --- control groups ---------------------------------------------------------------------------------------------------

V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "max 100000"}, None),
        ({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "150000 100000"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b", f"{V2}/a/cpu.max": "200000 100000", f"{V2}/a/b/cpu.max": "max 100000"}, 2.0),
        ({"proc/self/cgroup": "0::/a/b", f"{V2}/a/cpu.max": "200000 100000", f"{V2}/a/b/cpu.max": "50000 100000"}, 0.5),
        ({"proc/self/cgroup": "0::/host/path", f"{V2}/cpu.max": "300000 100000"}, 3.0),  # seen from a container
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/job",
                f"{V1}/job/cpu.cfs_quota_us": "400000",
                f"{V1}/job/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/job",
                f"{V1}/job/cpu.cfs_quota_us": "-1",
                f"{V1}/job/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n0::/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
            },
            2.0,
        ),
        ({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "0 100000"}, None),
        ({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "5 0"}, None),
        ({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "100000"}, None),
        ({"proc/self/cgroup": "0::/", f"{V2}/cpu.max": "many 100000"}, None),
        ({"proc/self/cgroup": "9:memory:/x", f"{V2}/cpu.max": "100000 100000"}, None),
        ({"proc/self/cgroup": "0::/../../..", f"{V2}/cpu.max": "100000 100000"}, 1.0),
        ({"proc/self/cgroup": "garbage\n::::\n0"}, None),
    ],
)
def test_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    write(tmp_path, files)
    assert cgroup_quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "n"), [(None, 8), (16.0, 8), (8.0, 8), (3.7, 3), (1.0, 1), (0.25, 1)])
def test_quota_limits_the_default(quota: float | None, n: int) -> None:
    m = Topology(tuple((c,) for c in range(8)), (tuple(range(8)),), 8, quota)
    choice = default_threads(m, {})
    assert choice.n_threads == n
    assert ("no control group quota" if quota is None else f"quota of {quota:g} CPUs") in choice.reason


def test_environment_overrides(tmp_path: Path) -> None:
    m = topology(machine(tmp_path, 1, 4, 1), affinity=range(4))
    assert default_threads(m, {"ZIGLLAMA_THREADS": "7"}).n_threads == 7
    assert "ZIGLLAMA_THREADS=7" in default_threads(m, {"ZIGLLAMA_THREADS": " 7 "}).reason
    assert default_threads(m, {"ZIGLLAMA_THREADS": ""}).n_threads == 4
    assert default_threads(m, {"ZIGLLAMA_THREADS": "auto"}).n_threads == 4
    for wrong in ("0", "-1", "two", "1.5", str(MAX_THREADS + 1), "٣", "1e2"):
        with pytest.raises(InvalidArgument, match="ZIGLLAMA_THREADS"):
            default_threads(m, {"ZIGLLAMA_THREADS": wrong})


# --- placement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "n", "cpus"),
    [
        ((1, 4, 2), 1, (0,)),
        ((1, 4, 2), 4, (0, 1, 2, 3)),
        ((1, 4, 2), 6, (0, 1, 2, 3, 4, 5)),  # second siblings only when every core has a thread
        ((1, 2, 1), 5, (0, 1, 0, 1, 0)),
        ((2, 4, 2), 2, (0, 4)),  # one thread per node: both memories are read
        ((2, 4, 2), 4, (0, 1, 4, 5)),
        ((2, 4, 2), 5, (0, 1, 2, 4, 5)),
        ((2, 4, 2), 16, (0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15)),
        ((4, 2, 1), 4, (0, 2, 4, 6)),
        ((4, 2, 1), 8, (0, 1, 2, 3, 4, 5, 6, 7)),
    ],
)
def test_placement(tmp_path: Path, shape: tuple[int, int, int], n: int, cpus: tuple[int, ...]) -> None:
    m = topology(machine(tmp_path, *shape), affinity=range(shape[0] * shape[1] * shape[2]))
    assert placement(m, n) == cpus


def test_uneven_nodes_share_by_their_cores() -> None:
    m = Topology(tuple((c,) for c in range(6)), ((0, 1, 2, 3), (4, 5)), 6, None)
    assert placement(m, 3) == (0, 1, 4)
    assert placement(m, 6) == (0, 1, 2, 3, 4, 5)


def test_placement_needs_threads_and_cpus() -> None:
    m = Topology(((0,),), ((0,),), 1, None)
    with pytest.raises(InvalidArgument):
        placement(m, 0)
    with pytest.raises(InvalidArgument):
        placement(Topology((), (), 0, None), 1)


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 2), st.integers(1, 40))
def test_placement_is_even(n_nodes: int, cores: int, smt: int, n: int) -> None:
    total = n_nodes * cores
    m = Topology(
        tuple(tuple(c + k * total for k in range(smt)) for c in range(total)),
        tuple(
            tuple(c + k * total for k in range(smt) for c in range(i * cores, (i + 1) * cores)) for i in range(n_nodes)
        ),
        total * smt,
        None,
    )
    cpus = placement(m, n)
    assert len(cpus) == n
    assert max(cpus.count(c) for c in m.cpus) <= -(-n // (total * smt)) + (n > total * smt)
    if n <= total:
        assert len({c % total for c in cpus}) == n  # nobody shares a core while one is free
    per_node = [sum(m.node_of(c) == i for c in cpus) for i in range(n_nodes)]
    assert max(per_node) - min(per_node) <= 1
    assert [m.node_of(c) for c in cpus] == sorted(m.node_of(c) for c in cpus)


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_pool_has_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPool(ThreadPoolConfig(n_threads=3, isa="generic")) as pool:
        assert (pool.n_threads, pool.reason, pool.isa, pool.cpus) == (3, "as asked", "generic", None)
        assert pool.context.counters()["runs"] == 0
        assert "3 threads" in repr(pool)
    with pytest.raises(ClosedError):
        pool.context.counters()
    monkeypatch.setenv("ZIGLLAMA_THREADS", "2")
    with ThreadPool() as pool:
        assert (pool.n_threads, pool.reason) == (2, "ZIGLLAMA_THREADS=2")


def workers() -> dict[int, str]:
    """The native threads of this process: id -> name. Other tests keep contexts of their own."""
    tasks = Path("/proc/self/task").iterdir()
    names = {int(task.name): (task / "comm").read_text().strip() for task in tasks}
    return {tid: name for tid, name in names.items() if name.startswith("zl-worker")}


def test_affinity_is_settable() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    first, last = allowed[0], allowed[-1]
    others = set(workers())
    with ThreadPool(ThreadPoolConfig(n_threads=3, affinity=(first, first, last))) as pool:

        def affinities() -> dict[str, set[int]]:
            return {name: os.sched_getaffinity(tid) for tid, name in workers().items() if tid not in others}

        assert affinities() == {"zl-worker-1": {first}, "zl-worker-2": {last}}
        pool.set_affinity((first, last, first))
        assert affinities() == {"zl-worker-1": {last}, "zl-worker-2": {first}}
        assert pool.cpus == (first, last, first)
        pool.set_affinity("auto")
        assert pool.cpus == placement(topology(), 3)
        with pytest.raises(InvalidArgument, match="2 CPU numbers for 3 threads"):
            pool.set_affinity((0, 0))
        with pytest.raises(NativeError, match="99999"):
            pool.set_affinity((0, 99_999, 0))
    assert affinities() == {}
    assert os.sched_getaffinity(0) == set(allowed)  # the caller was left alone


def test_caller_is_pinned_when_asked() -> None:
    before = os.sched_getaffinity(0)
    try:
        with ThreadPool(ThreadPoolConfig(n_threads=1, affinity="auto")) as pool:
            pool.pin_caller()
            assert pool.cpus is not None
            assert os.sched_getaffinity(0) == {pool.cpus[0]}
    finally:
        os.sched_setaffinity(0, before)
    with ThreadPool(ThreadPoolConfig(n_threads=1)) as pool, pytest.raises(InvalidArgument):
        pool.pin_caller()


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (ThreadPoolConfig(n_threads=0), InvalidArgument),
        (ThreadPoolConfig(n_threads=-3), InvalidArgument),
        (ThreadPoolConfig(n_threads=MAX_THREADS + 1), InvalidArgument),
        (ThreadPoolConfig(n_threads=2, affinity=(0,)), InvalidArgument),
        (ThreadPoolConfig(n_threads=2, affinity=(0, -1)), InvalidArgument),
        (ThreadPoolConfig(n_threads=2, affinity="numa"), InvalidArgument),
        (ThreadPoolConfig(n_threads=2, affinity=(0, 99_999)), NativeError),
        (ThreadPoolConfig(n_threads=1, isa="sse9"), UnknownName),
    ],
)
def test_pool_refuses(config: ThreadPoolConfig, error: type[Exception]) -> None:
    with pytest.raises(error):
        ThreadPool(config)


def test_isa_that_this_cpu_lacks() -> None:
    built = native.isa_variants()
    absent = next((name for name, usable in built if not usable), "neon" if ("avx2", True) in built else "avx2")
    with pytest.raises(ISAUnavailable, match=absent):
        ThreadPool(ThreadPoolConfig(n_threads=1, isa=absent))


# --- NUMA: where weights lie ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_nodes", [1, 2, 4])
def test_a_weight_is_laid_out_for_the_threads_that_read_it(tmp_path: Path, n_nodes: int) -> None:
    """From a tree of sysfs to bytes: every node has one span, of the panels that its threads are dealt."""
    m = topology(machine(tmp_path, n_nodes, 8 // n_nodes, 1), affinity=range(8))
    assert m.numbers == tuple(range(n_nodes))
    nodes = [m.number_of(cpu) for cpu in placement(m, 8)]
    assert nodes == sorted(nodes) and [nodes.count(i) for i in range(n_nodes)] == [8 // n_nodes] * n_nodes
    spans = native_numa.plan(nodes, n_panels=64, panel_bytes=9216)
    assert [s.node for s in spans] == list(range(n_nodes))
    assert [list(s.threads) for s in spans] == [[t for t in range(8) if nodes[t] == i] for i in range(n_nodes)]
    assert spans[0].begin == 0 and spans[-1].end == 64 * 9216
    for a, b in itertools.pairwise(spans):
        assert a.end == b.begin == b.threads[0] * 8 * 9216 // 4096 * 4096


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(0, 300),
    st.integers(1, 40_000),
    st.sampled_from([4096, 65536, 2 << 20]),
)
def test_plans_are_whole_pages_without_gaps(nodes: list[int], n_panels: int, panel_bytes: int, page: int) -> None:
    spans = native_numa.plan(nodes, n_panels, panel_bytes, page)
    assert [s.begin for s in spans] == [0, *(s.end for s in spans[:-1])][: len(spans)]
    assert sum(s.end - s.begin for s in spans) == -(-n_panels * panel_bytes // page) * page
    assert all(s.begin % page == 0 and s.end > s.begin and nodes[s.threads[0]] == s.node for s in spans)


def test_numbers_of_nodes_are_the_systems(tmp_path: Path) -> None:
    """Node 0 has memory alone, nodes 2 and 7 the CPUs."""
    write(
        tmp_path,
        {
            "sys/devices/system/cpu/online": "0-3",
            "sys/devices/system/node/node0/cpulist": "\n",
            "sys/devices/system/node/node2/cpulist": "0-1",
            "sys/devices/system/node/node7/cpulist": "2-3",
        },
    )
    m = topology(tmp_path, affinity=range(4))
    assert m.nodes == ((0, 1), (2, 3)) and m.numbers == (2, 7)
    assert [m.number_of(cpu) for cpu in (1, 2)] == [2, 7]
    assert Topology(((0,), (1,)), ((0,), (1,)), 2, None).number_of(1) == 1


def a_weight(context: NativeContext, rows: int = 2048) -> NativeWeight:
    return NativeWeight(context, 0, rows, 1024, alloc_array(rows * 4096))


@pytest.mark.parametrize(
    ("numbers", "expected"), [((2, 2, 2, 2), []), ((0, 0, 5, 5), [0, 5]), ((9, 1, 4, 70), [9, 1, 4, 70])]
)
def test_masks_handed_to_mbind(numbers: tuple[int, ...], expected: list[int]) -> None:
    """1, 2 and 4 nodes: a range each, one bit in the mask, preferred and not bound, the ranges side by side."""
    calls: list[tuple[int, int, int, list[int]]] = []
    with NativeContext(4) as context, native_numa.MbindHook(context, lambda *call: calls.append(call) or 0):  # type: ignore[func-returns-value]
        native_numa.set_nodes(context, numbers)
        weight = a_weight(context)
        counted = context.counters()
    assert [nodes for *_, nodes in calls] == [[n] for n in expected]
    assert all(mode == 1 for _, _, mode, _ in calls)
    assert sum(n for _, n, *_ in calls) == (weight.n_bytes if expected else 0)
    assert all(b[0] == a[0] + a[1] for a, b in itertools.pairwise(calls))
    assert (counted["bound_ranges"], counted["bind_failures"]) == (len(expected), 0)


def test_a_refusal_is_counted_and_no_error() -> None:
    with NativeContext(2) as context, native_numa.MbindHook(context, lambda *call: 1):
        native_numa.set_nodes(context, (0, 1))
        a_weight(context).close()
        counted = context.counters()
        native_numa.set_nodes(context, None)
        a_weight(context).close()
        assert context.counters() == counted | {n: context.counters()[n] for n in ("stages", "chunks", "stolen")}
        with pytest.raises(InvalidArgument, match="3 nodes for 2 threads"):
            native_numa.set_nodes(context, (0, 1, 2))
        with pytest.raises(InvalidArgument, match="thread 1 on node 5000"):
            native_numa.set_nodes(context, (0, 5000))
    assert (counted["bound_ranges"], counted["bind_failures"]) == (0, 2)


def test_threads_are_pinned_on_several_nodes_and_on_one_they_are_not(tmp_path: Path) -> None:
    """Seen in the workers' own masks. The machine that is presented has one of this one's CPUs on each node."""
    own = sorted(os.sched_getaffinity(0))[:2]
    if len(own) < 2:
        pytest.skip("two nodes need two CPUs, this process may use one")
    cpus = {f"sys/devices/system/node/node{i}/cpulist": str(cpu) for i, cpu in enumerate(own)}
    write(tmp_path / "two", {"sys/devices/system/cpu/online": ranges(own), **cpus})
    write(tmp_path / "one", {"sys/devices/system/cpu/online": ranges(own)})

    def worker_masks() -> set[frozenset[int]]:
        names = {t: Path(f"/proc/self/task/{t}/comm").read_text().strip() for t in os.listdir("/proc/self/task")}
        return {frozenset(os.sched_getaffinity(int(t))) for t, name in names.items() if name == "zl-worker-1"}

    before = worker_masks()  # of other contexts of this process
    with placed_context(2, machine=topology(tmp_path / "two", affinity=own)) as context:
        assert {frozenset(own[1:])} <= worker_masks()
        a_weight(context).close()
        counted = context.counters()
        assert counted["bound_ranges"] + counted["bind_failures"] == 2
    with placed_context(2, machine=topology(tmp_path / "one", affinity=own)) as context:
        assert worker_masks() - before <= {frozenset(os.sched_getaffinity(0))}
        a_weight(context).close()
        counted = context.counters()
        assert counted["bound_ranges"] == counted["bind_failures"] == 0
