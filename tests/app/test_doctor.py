"""`doctor`: what it says agrees with what the library does, and a wrong setting is a finding with exit code 1."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zigllama
from zigllama.app.doctor import cpu_ranges, examine
from zigllama.app.main import main
from zigllama.foundation.blas_integration import BlasInterface
from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.threading import default_threads


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ZIGLLAMA_ISA", "ZIGLLAMA_BLAS", "ZIGLLAMA_THREADS", "ZIGLLAMA_BACKEND", "ZIGLLAMA_TAPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path / "cache"))


def told(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    assert main(["doctor", "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    report: dict[str, Any] = json.loads(out)
    return report


def test_what_it_says_is_what_the_library_does(capsys: pytest.CaptureFixture[str]) -> None:
    report = told(capsys)
    processor = report["processor"]
    assert {n.removeprefix("variant "): v for n, v in processor.items() if n.startswith("variant ")} == dict(
        isa_variants()
    )
    with NativeContext(1) as context:
        assert processor["chosen"] == {"isa": context.isa, "reason": "the best of the usable"}
    assert len(processor["kernels"]) > 5
    choice = default_threads()
    assert report["threads"]["chosen"] == {"n_threads": choice.n_threads, "reason": choice.reason}
    assert report["memory"]["total"] >= report["memory"]["available"] > 0
    assert report["version"]["zigllama"] == zigllama.__version__
    assert report["problems"] == []


def test_settings_are_shown_as_the_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ZIGLLAMA_ISA", "generic")
    monkeypatch.setenv("ZIGLLAMA_THREADS", "3")
    report = told(capsys)
    assert report["processor"]["chosen"] == {"isa": "generic", "reason": "ZIGLLAMA_ISA=generic"}
    assert set(report["processor"]["kernels"].values()) == {"generic"}
    assert report["threads"]["chosen"] == {"n_threads": 3, "reason": "ZIGLLAMA_THREADS=3"}
    assert report["environment"]["ZIGLLAMA_ISA"] == "generic"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ZIGLLAMA_ISA", "avx3", "unknown ISA variant 'avx3'"),
        ("ZIGLLAMA_THREADS", "0", "'0'"),
        ("ZIGLLAMA_BLAS", "cublas", "unknown BLAS library 'cublas'"),
        ("ZIGLLAMA_BLAS", "/nowhere/libblas.so", "BLAS library '/nowhere/libblas.so' cannot be used"),
    ],
)
def test_a_wrong_setting_is_a_finding(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    problems = told(capsys, code=1)["problems"]
    assert len(problems) == 1
    assert says in problems[0]
    assert main(["doctor"]) == 1
    assert f"problem: {problems[0]}" in capsys.readouterr().out


def test_blas_libraries(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stub_blas: Callable[[str], Path]
) -> None:
    """What is linked, what was found and not loaded, what is taken and why, and how its threads are held."""
    stub = stub_blas("libblis64.so.4")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub.parent))
    blas = told(capsys)["blas"]
    assert blas["linked"] == BlasInterface.linked()
    assert blas["chosen"] == {"name": "generic", "reason": "auto takes our own kernels"}
    assert blas["blis"][0] == str(stub)
    assert set(blas) == {"linked", "chosen", "openblas", "mkl", "accelerate", "atlas", "blis"}
    monkeypatch.setenv("ZIGLLAMA_BLAS", "blis")
    report = told(capsys)
    assert report["blas"]["chosen"] == BlasInterface("blis").facts() | {"reason": "ZIGLLAMA_BLAS=blis"}
    assert report["environment"]["ZIGLLAMA_BLAS"] == "blis"
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"{stub}, cblas_sgemm, integers of 64 bits" in text
    assert "1 while ours run, by bli_thread_set_num_threads" in text
    monkeypatch.setenv("ZIGLLAMA_BLAS", str(stub_blas("libsatlas.so.3")))
    assert main(["doctor"]) == 0
    assert "it has no function to set them" in capsys.readouterr().out


def test_numa_nodes_and_whether_memory_can_be_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On two nodes (of which this machine may have only one) what came of binding is told, a refusal as a problem."""
    from zigllama.foundation import topology as module

    own = sorted(os.sched_getaffinity(0))[:2]
    if len(own) < 2:
        pytest.skip("two nodes need two CPUs, this process may use one")
    folder = tmp_path / "sys/devices/system/node"
    for node, cpu in zip((0, 63), own, strict=True):
        (folder / f"node{node}").mkdir(parents=True)
        (folder / f"node{node}" / "cpulist").write_text(f"{cpu}\n")
    presented = module.topology(tmp_path, affinity=own)
    monkeypatch.setattr(module, "topology", lambda: presented)
    report = examine().to_json()
    threads = report["threads"]
    assert threads["NUMA nodes"] == 2
    assert threads["memory"]["bound"] + threads["memory"]["failed"] == 2
    refused = [p for p in report["problems"] if "refuses to bind memory" in p]
    assert len(refused) == (threads["memory"]["failed"] > 0)
    assert f"2; node 0: CPUs {own[0]}; node 63: CPUs {own[1]}" in str(examine())
    assert [cpu_ranges(c) for c in ([0, 1, 2, 8], [4], [])] == ["0-2,8", "4", ""]


def test_a_cache_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path / "file"))
    assert any("ZIGLLAMA_CACHE" in problem for problem in examine().problems)


def test_the_text_names_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in ("chosen", "variant generic", "physical", "huge pages", "smollm2", "no problems found"):
        assert part in out
    assert "not in the cache; `zigllama pull smollm2` fetches it" in out
