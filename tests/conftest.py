"""What every test shares: the real models, the Hypothesis profiles, and the rule that no test is skipped unseen.

Real models come from the cache (`zigllama pull`), never from the network: a test asks for `smollm2_path` or
`gemma3_path`, and is skipped aloud where the file is missing. A skip whose reason is not in permitted_skips.txt fails
the run when `CI` or `ZIGLLAMA_STRICT_SKIPS` is set.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from zigllama.app.catalogue import lookup

# ci: the same examples every time. deep: `pytest --hypothesis-profile=deep`, for a night or a doubt.
settings.register_profile(
    "ci", max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", max_examples=5_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")

# --- real models ------------------------------------------------------------------------------------------------------


def model_or_skip(name: str) -> Path:
    entry = lookup(name)
    if not entry.present:
        pytest.skip(f"model {name} is not in the cache; `zigllama pull {name}` fetches it")
    return entry.place


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, as a GGUF file."""
    return model_or_skip("smollm2")


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """Gemma 3 270M, Q4_K_M, as a GGUF file."""
    return model_or_skip("gemma3-270m")


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """all-MiniLM-L6-v2, a folder."""
    return model_or_skip("minilm")


# --- skips ------------------------------------------------------------------------------------------------------------

PERMITTED_FILE = Path(__file__).with_name("permitted_skips.txt")


def permitted_patterns(text: str) -> list[str]:
    """The patterns of the list: shell-style, matched against a whole skip reason.

    A `#` line is a comment and says why.
    """
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def unpermitted(reasons: list[str], patterns: list[str]) -> list[str]:
    """The reasons that no pattern of the list covers."""
    return [reason for reason in reasons if not any(fnmatch.fnmatchcase(reason, pattern) for pattern in patterns)]


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test or a whole module was skipped, without pytest's own prefix.

    An expected failure (xfail) counts: it is no pass either.
    """
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(getattr(report, "wasxfail", report.longrepr))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a strict run that skipped a test for a reason that is not in the list."""
    if session.config.option.collectonly or not (os.environ.get("CI") or os.environ.get("ZIGLLAMA_STRICT_SKIPS")):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    skips = [*reporter.stats.get("skipped", []), *reporter.stats.get("xfailed", [])]
    bad = [
        f"{report.nodeid}: {reason}"
        for report in skips
        if unpermitted([reason := skip_reason(report)], permitted_patterns(PERMITTED_FILE.read_text("utf-8")))
    ]
    if bad:
        reporter.write_sep("!", "skips that tests/permitted_skips.txt does not permit", red=True)
        for line in bad:
            reporter.write_line(line)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def stub_blas(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build a stand-in for a BLAS library by its file name, once per session, in a folder of its own."""
    import blas_stubs  # as below

    built: dict[str, Path] = {}

    def path(name: str) -> Path:
        if name not in built:
            built[name] = blas_stubs.build(tmp_path_factory.mktemp("stub_blas"), name)
        return built[name]

    return path


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build a small random model, once per session."""
    import small_models  # here, because test_skips.py runs this file away from its neighbours

    folder = tmp_path_factory.mktemp("small_models")
    built: dict[str, Path] = {}

    def path(name: str) -> Path:
        if name not in built:
            built[name] = small_models.build(name, folder)
        return built[name]

    return path
