"""`run` and `chat` with a model that says what it is told to: what is on stdout, on stderr, and in the exit code."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from zigllama.app.main import main
from zigllama.errors import BadImage, ContextOverflow, NotGGUF, TemplateMissing
from zigllama.inference.model import Model


class FakeModel:
    """Answers with `pieces`; an exception among them is raised at its place. Remembers how it was made and asked."""

    pieces: list[str | BaseException]
    made: list[dict[str, Any]]
    asked: list[tuple[str, dict[str, Any]]]
    template: BaseException | None
    ended: list[str]  # how streams ended: "done" or "closed"
    info = SimpleNamespace(name="Fake")
    backend = {"backend": "native", "isa": "generic", "n_threads": 2}  # noqa: RUF012

    def __init__(self, path: Path, **options: Any) -> None:
        if path.read_bytes() != b"GGUF":
            raise NotGGUF("the file begins with something else")
        self.made.append(options)

    def __enter__(self) -> FakeModel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.append("model closed")

    def generate(self, prompt: str, *, stream: bool = False, **options: Any) -> Any:
        self.asked.append((prompt, options))
        events = self._stream()
        if stream:
            return events
        try:
            while True:
                next(events)
        except StopIteration as end:
            return end.value

    def _stream(self) -> Generator[Any, None, Any]:
        ending = "closed"
        try:
            for piece in self.pieces:
                if isinstance(piece, BaseException):
                    raise piece
                yield SimpleNamespace(text=piece, token_id=1)
            ending = "done"
        finally:
            self.ended.append(ending)
        return SimpleNamespace(
            text="".join(str(p) for p in self.pieces),
            token_ids=[1] * len(self.pieces),
            finish_reason="length",
            usage={"prompt_tokens": 5, "cached_tokens": 0, "completion_tokens": len(self.pieces)},
            timings={"prefill_s": 0.1, "decode_s": 0.1, "prefill_tps": 50.0, "decode_tps": 20.0},
            truncated=False,
            seed=7,
            logprobs=None,
            explain=None,
            fingerprint="isa=generic",
        )

    def render_chat(self, messages: object, **options: object) -> None:
        self.asked += [("rendered", options)] * bool(options)
        if self.template is not None:
            raise self.template

    def session(self, system: str | None = None) -> Any:
        self.asked.append(("new session", {"system": system}))
        return SimpleNamespace(chat=self.generate, close=lambda: self.asked.append(("session closed", {})))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    module = ModuleType("zigllama.inference.model")
    module.Model = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    FakeModel.pieces, FakeModel.made, FakeModel.asked, FakeModel.ended = [" Par", "", "is."], [], [], []
    FakeModel.template = None
    return FakeModel


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    return str(tmp_path / "m.gguf")


class Input(io.TextIOWrapper):
    def __init__(self, data: bytes, terminal: bool) -> None:
        super().__init__(io.BytesIO(data), "utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes, terminal: bool = False) -> None:
    monkeypatch.setattr(sys, "stdin", Input(data, terminal))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)


# --- run --------------------------------------------------------------------------------------------------------------


def test_only_the_answer_is_on_stdout(fake: type[FakeModel], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", path, "-p", "The capital", "-n", "8", "--temp", "0", "-c", "64", "-t", "2"]) == 0
    assert capsys.readouterr() == (" Paris.\n", "")
    assert fake.made == [{"n_ctx": 64, "n_threads": 2}]
    assert fake.asked == [("The capital", {"max_tokens": 8, "temperature": 0.0})]
    assert fake.ended == ["done", "model closed"]


def test_the_line_is_ended_once(fake: type[FakeModel], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    fake.pieces = ["a line\n", ""]
    main(["run", path, "-p", "x"])
    fake.pieces = [""]
    main(["run", path, "-p", "x"])
    assert capsys.readouterr().out == "a line\n"


def test_text_is_shown_as_it_comes(fake: type[FakeModel], path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Watched(io.StringIO):
        def flush(self) -> None:
            shown.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Watched())
    main(["run", path, "-p", "x"])
    assert shown[:3] == [" Par", " Paris.", " Paris.\n"]


def test_verbose_goes_to_stderr(fake: type[FakeModel], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", path, "-p", "x", "-v"])
    out, err = capsys.readouterr()
    assert out == " Paris.\n"
    for part in ("prompt 5 tokens", "answer 3 tokens", "seed 7", "2 threads", "isa=generic", "length"):
        assert part in err
    assert err.count("\n") == 1


def test_json(fake: type[FakeModel], path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", path, "-p", "x", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["text"] == " Paris."
    assert told["usage"]["prompt_tokens"] == 5
    assert told["seed"] == 7
    assert told["backend"]["isa"] == "generic"


def test_ctrl_c_ends_the_line_and_the_program(
    fake: type[FakeModel], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.pieces = ["half", KeyboardInterrupt()]
    assert main(["run", path, "-p", "x"]) == 130
    assert capsys.readouterr() == ("half\n", "zigllama run: interrupted\n")
    assert fake.ended == ["closed", "model closed"]


def test_a_prompt_from_a_pipe(
    fake: type[FakeModel], path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, "zwei\nZeilen äöü\n".encode())
    assert main(["run", path]) == 0
    assert fake.asked[0][0] == "zwei\nZeilen äöü"


def test_errors_of_run(fake: type[FakeModel], path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"something")
    assert main(["run", str(tmp_path / "bad.gguf"), "-p", "x"]) == 3
    assert main(["run", path, "-p", "x", "--tmp", "1"]) == 2
    assert main(["run", path, "-p", "x", "-f", "y"]) == 2
    fake.pieces = [ContextOverflow(100, 64)]
    assert main(["run", path, "-p", "x"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 4


# --- chat -------------------------------------------------------------------------------------------------------------


def test_a_conversation_in_a_pipe(
    fake: type[FakeModel], path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"second\n\nthird\n")
    assert main(["chat", path, "-p", "first", "-sys", "be brief", "--temp", "0"]) == 0
    assert capsys.readouterr() == (" Paris.\n" * 3, "")
    assert fake.asked[0] == ("new session", {"system": "be brief"})
    assert [text for text, _ in fake.asked[1:]] == ["first", "second", "third"]
    assert all(options == {"temperature": 0.0} for _, options in fake.asked[1:])


def test_a_template_in_place_of_the_file_s_own(
    fake: type[FakeModel], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name goes as it is; a file of Jinja is read. It is tried before anybody types, and holds for each turn."""
    file = tmp_path / "t.jinja"
    file.write_text("{{ 1 }}")
    for flag, given, want in (("--template", "gemma", "gemma"), ("--chat-template", str(file), "{{ 1 }}")):
        fake.asked.clear()
        feed(monkeypatch, b"two\n")
        assert main(["chat", path, "-p", "one", flag, given]) == 0
        turns = [(text, {"template": want}) for text in ("one", "two")]
        assert fake.asked == [("rendered", {"template": want}), ("new session", {"system": None}), *turns]
    assert main(["chat", path, "--template", str(tmp_path / "none.jinja")]) == 2


def test_commands(
    fake: type[FakeModel], path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"one\n/reset\n/help\ntwo\n/exit\nthree\n")
    assert main(["chat", path]) == 0
    assert [text for text, _ in fake.asked] == ["new session", "one", "session closed", "new session", "two"]
    assert "unknown command '/help'" in capsys.readouterr().err


def test_without_a_template_nobody_is_asked(
    fake: type[FakeModel], path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"hi\n")
    fake.template = TemplateMissing("the model has no chat template")
    assert main(["chat", path]) == 3
    assert fake.asked == []
    assert capsys.readouterr() == ("", "zigllama chat: the model has no chat template\n")


def test_ctrl_c_on_a_terminal_stops_the_answer_only(
    fake: type[FakeModel], path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"", terminal=True)
    fake.pieces = ["half", KeyboardInterrupt()]
    lines = iter(["one", "two"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, None) or (_ for _ in ()).throw(EOFError()))
    assert main(["chat", path]) == 0
    out, err = capsys.readouterr()
    assert out == "half\nhalf\n"
    assert err.count("this turn is forgotten") == 2


def test_ctrl_c_in_a_pipe_ends_the_program(
    fake: type[FakeModel], path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"one\ntwo\n")
    fake.pieces = ["half", KeyboardInterrupt()]
    assert main(["chat", path]) == 130
    assert capsys.readouterr() == ("half\n", "zigllama chat: interrupted\n")


@pytest.mark.parametrize(("terminal", "code"), [(True, 0), (False, 4)])
def test_a_full_context(
    fake: type[FakeModel], path: str, terminal: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"one\n", terminal)
    fake.pieces = [ContextOverflow(100, 64)]
    lines = iter(["one"])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines, "/exit"))
    assert main(["chat", path]) == code


# --- real models ------------------------------------------------------------------------------------------------------


def test_smollm2_says_paris(smollm2_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(smollm2_path), "-p", "The capital of France is", "-n", "8", "--temp", "0"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(" Paris.")
    assert err == ""


def test_gemma_by_name(gemma3_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "gemma3-270m", "-p", "The capital of France is", "-n", "8", "--temp", "0"]) == 0
    assert capsys.readouterr() == (" the capital of the country of France.\n", "")


def test_a_seed_gives_the_same_text(smollm2_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for seed, threads in (("1", "1"), ("1", "2"), ("2", "2")):
        words = ["run", str(smollm2_path), "-p", "Once", "-n", "12", "--temp", "1.5", "-s", seed, "-t", threads]
        assert main([*words, "-c", "64"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[1] != texts[2]


def test_a_prompt_longer_than_the_context(smollm2_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(smollm2_path), "-p", "word " * 100, "-c", "64"]) == 4
    assert capsys.readouterr().out == ""


def test_a_chat_with_smollm2_in_a_pipe(
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = ["What is the capital of France?", "And of Italy?"]
    feed(monkeypatch, "\n".join(questions).encode())
    assert main(["chat", str(smollm2_path), "--temp", "0", "-n", "16", "-c", "256", "-sys", "Answer."]) == 0
    with Model(smollm2_path, n_ctx=256) as model, model.session(system="Answer.") as session:
        answers = [session.chat(q, temperature=0.0, max_tokens=16).text for q in questions]
    assert all(answers)
    assert capsys.readouterr() == ("".join(f"{a}\n" for a in answers), "")


def test_a_base_model_has_no_template(
    gemma3_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, b"hi\n")
    assert main(["chat", str(gemma3_path)]) == 3
    assert capsys.readouterr().out == ""


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "cat.png").write_bytes(b"no decoder looks at it here")
    return str(tmp_path / "cat.png")


def test_run_hands_images_over(
    fake: type[FakeModel], path: str, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", path, "-p", "what is <image>?", "--image", image, "--mmproj", "tower.gguf"]) == 0
    assert fake.made == [{"vision": "tower.gguf"}]
    assert fake.asked == [("what is <image>?", {"images": [image]})]
    assert capsys.readouterr().err == ""
    main(["run", path, "-p", "what is it?", "--image", image, "--image", image, "--mmproj", "tower.gguf"])
    assert fake.asked[-1] == ("<image><image>what is it?", {"images": [image, image]})
    assert "stand before it" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "chat"])
def test_images_that_cannot_be(
    verb: str, fake: type[FakeModel], path: str, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, path, "-p", "x", "--image", image]) == 2
    assert "--mmproj" in capsys.readouterr().err
    assert main([verb, path, "-p", "x", "--image", image + "x", "--mmproj", "tower.gguf"]) == 3
    assert "cat.pngx" in capsys.readouterr().err and not fake.asked


def test_chat_says_images_with_the_next_message(
    fake: type[FakeModel],
    path: str,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(FakeModel, "vision", object(), raising=False)
    feed(monkeypatch, f"what is it?\nand now?\n/image {image}\n/image {image}x\nand this?\n".encode())
    assert main(["chat", path, "--image", image, "--mmproj", "tower.gguf"]) == 0
    said = [prompt for prompt, _ in fake.asked if prompt != "new session"]
    part: Any = {"type": "image", "image": image}
    want: list[Any] = [[part, {"type": "text", "text": "what is it?"}], "and now?"]
    assert said == [*want, [part, {"type": "text", "text": "and this?"}]]
    assert "1 image for the next message" in (err := capsys.readouterr().err) and "cat.pngx" in err


def test_chat_without_a_tower(
    fake: type[FakeModel], path: str, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeModel, "vision", None, raising=False)
    feed(monkeypatch, f"/image {image}\nhello\n".encode())
    assert main(["chat", path]) == 0
    assert fake.asked[-1][0] == "hello" and "--mmproj" in capsys.readouterr().err


def test_chat_forgets_an_image_that_is_none(
    fake: type[FakeModel], path: str, image: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeModel, "vision", object(), raising=False)
    lines = iter([f"/image {image}", "what is it?"])

    def typed(prompt: str) -> str:
        fake.pieces = [BadImage(image, "cannot be decoded")] if fake.made and not fake.ended else ["ok"]
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    feed(monkeypatch, b"", terminal=True)
    assert main(["chat", path]) == 0
    assert "its images are forgotten" in capsys.readouterr().err
