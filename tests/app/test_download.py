"""`pull` of URLs and of hf: from a server on loopback that breaks off, lies, changes its mind and sends elsewhere."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import types
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from pathlib import Path
from types import SimpleNamespace

import pytest
from web_server import Fault, File, Web, serving

import zigllama as zl
from zigllama.app import download as download_module
from zigllama.app.main import main
from zigllama.app.options import model_path
from zigllama.app.pull import pull
from zigllama.app.remote import HUB, source_of
from zigllama.app.web import Redirects
from zigllama.errors import ChecksumMismatch, InvalidArgument, PullError

DATA = bytes(range(256)) * 40
OTHER = DATA[::-1]
SUM = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for key in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path))
    monkeypatch.setattr(download_module, "PAUSE_S", 0.001)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # the extra is tested with a stand-in, below
    with serving() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url(""))
        made.files["/d/m.bin"] = File(DATA)
        yield made


def left(tmp_path: Path) -> list[str]:
    """Files in the cache that are neither locks nor records of whole files."""
    names = [p.name for p in (tmp_path / "models").rglob("*") if p.is_file()]
    return sorted(n for n in names if not n.endswith(".lock") and not (n.endswith(".json") and ".part" not in n))


def test_a_file_arrives_whole(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = zl.pull(web.url("/d/m.bin"))
    assert path.read_bytes() == DATA
    assert path.is_relative_to(tmp_path / "models" / "url")
    assert left(tmp_path) == ["m.bin"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err and SUM in err


def test_files_of_a_folder_stay_together(web: Web) -> None:
    web.files |= {"/d/n.bin": File(OTHER), "/e/m.bin": File(OTHER)}
    one, two, other = (pull(web.url(p), progress=False) for p in ("/d/m.bin", "/d/n.bin", "/e/m.bin"))
    assert one.parent == two.parent != other.parent
    assert other.read_bytes() == OTHER


@pytest.mark.parametrize("form", ["#sha256=", "argument"])
def test_a_file_that_is_there_needs_no_network(web: Web, form: str) -> None:
    url, given = (web.url(f"/d/m.bin#sha256={SUM.upper()}"), None) if form[0] == "#" else (web.url("/d/m.bin"), SUM)
    path = pull(url, progress=False, sha256=given)
    assert pull(url, progress=False, sha256=given) == path
    assert len(web.seen) == 1


def test_a_wrong_sum_leaves_nothing(web: Web, tmp_path: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(ChecksumMismatch) as caught:
        pull(web.url("/d/m.bin"), progress=False, sha256=wrong)
    assert (caught.value.expected, caught.value.found) == (wrong, SUM)
    assert left(tmp_path) == []


def test_another_sum_than_that_of_the_file_that_is_there(web: Web, tmp_path: Path) -> None:
    path = pull(web.url("/d/m.bin"), progress=False)
    web.files["/d/m.bin"] = File(OTHER, '"two"')
    want = hashlib.sha256(OTHER).hexdigest()
    assert pull(web.url("/d/m.bin"), progress=False, sha256=want) == path
    assert path.read_bytes() == OTHER
    with pytest.raises(ChecksumMismatch):
        pull(web.url("/d/m.bin"), progress=False, sha256=SUM)
    assert path.read_bytes() == OTHER  # the file that was there is as it was


def test_a_file_that_went_bad_is_fetched_anew(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    path = pull(web.url("/d/m.bin"), progress=False)
    path.write_bytes(OTHER)
    assert pull(web.url("/d/m.bin"), progress=False, verify=False).read_bytes() == OTHER
    assert pull(web.url("/d/m.bin")).read_bytes() == DATA
    assert "does not have the sha256" in capsys.readouterr().err
    path.write_bytes(DATA[:-1])
    assert pull(web.url("/d/m.bin"), progress=False, verify=False).read_bytes() == DATA


# --- breaking off -----------------------------------------------------------------------------------------------------


def test_what_breaks_off_goes_on_where_it_stopped(web: Web) -> None:
    web.faults["/d/m.bin"] = [Fault(cut=1000), Fault(cut=500), Fault(cut=0), Fault()]
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == DATA
    assert [r.headers.get("range") for r in web.seen] == [None, "bytes=1000-", "bytes=1500-", "bytes=1500-"]
    assert [r.headers.get("if-range") for r in web.seen] == [None, '"one"', '"one"', '"one"']
    assert [r.status for r in web.seen] == [200, 206, 206, 206]


def test_the_next_command_goes_on_too(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.faults["/d/m.bin"] = [Fault(cut=4000)] + [Fault(cut=0)] * download_module.TRIES
    with pytest.raises(PullError, match=r"broke off after 4000 of 10240 bytes.*the same command goes on"):
        pull(web.url("/d/m.bin"), progress=False)
    assert left(tmp_path) == [".m.bin.part.json", "m.bin.part"]
    web.seen.clear()
    assert pull(web.url("/d/m.bin")).read_bytes() == DATA
    assert [r.headers.get("range") for r in web.seen] == ["bytes=4000-"]
    assert "4.0 kB are there; going on" in capsys.readouterr().err
    assert left(tmp_path) == ["m.bin"]


def test_all_had_arrived_but_its_name(web: Web, tmp_path: Path) -> None:
    web.faults["/d/m.bin"] = [Fault(cut=4000)] + [Fault(cut=0)] * download_module.TRIES
    with pytest.raises(PullError):
        pull(web.url("/d/m.bin"), progress=False)
    source_of(web.url("/d/m.bin")).part.write_bytes(DATA)
    web.seen.clear()
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == DATA
    assert not web.seen


def test_the_file_changes_in_between(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    web.faults["/d/m.bin"] = [Fault(cut=1000), Fault(change=File(OTHER, '"two"'))]
    assert pull(web.url("/d/m.bin")).read_bytes() == OTHER
    assert [r.status for r in web.seen] == [200, 200]
    assert "from the start" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [File(OTHER, '"two"'), File(OTHER, None), File(OTHER + b"more", '"one"'), File(DATA[:900], '"two"')],
    ids=["etag", "no etag", "size", "short"],
)
def test_it_changes_and_the_server_sends_the_range_all_the_same(web: Web, change: File) -> None:
    """Bytes of two files are never joined, whatever the server answers."""
    web.faults["/d/m.bin"] = [Fault(cut=1000), Fault(change=change, force=True)]
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == change.data


def test_a_range_that_begins_elsewhere(web: Web) -> None:
    web.faults["/d/m.bin"] = [Fault(cut=1000), Fault(shift=7)]
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == DATA
    assert "range" not in web.seen[2].headers


def test_a_server_that_sends_whole_files_only(web: Web) -> None:
    web.files["/d/m.bin"] = File(DATA, resumes=False)
    web.faults["/d/m.bin"] = [Fault(cut=1000)]
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == DATA


@pytest.mark.parametrize("etag", [None, 'W/"one"'])
def test_without_a_strong_etag_nothing_is_joined(web: Web, etag: str | None, tmp_path: Path) -> None:
    web.files["/d/m.bin"] = File(DATA, etag)
    web.faults["/d/m.bin"] = [Fault(cut=1000)]
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == DATA
    assert all("range" not in r.headers for r in web.seen)
    web.faults["/d/m.bin"] = [Fault(cut=10)] * download_module.TRIES
    pull(web.url("/d/m.bin"), progress=False).unlink()
    with pytest.raises(PullError, match="nothing is kept"):
        pull(web.url("/d/m.bin"), progress=False)
    assert left(tmp_path) == []


def test_with_a_sum_it_is_joined_and_the_sum_decides(web: Web, tmp_path: Path) -> None:
    web.files["/d/m.bin"] = File(DATA, None)
    web.faults["/d/m.bin"] = [Fault(cut=1000)]
    assert pull(web.url("/d/m.bin"), progress=False, sha256=SUM).read_bytes() == DATA
    assert web.seen[1].headers["range"] == "bytes=1000-"
    web.faults["/d/m.bin"] = [Fault(cut=1000), Fault(change=File(OTHER, None))]
    source_of(web.url("/d/m.bin")).path.unlink()
    with pytest.raises(ChecksumMismatch):
        pull(web.url("/d/m.bin"), progress=False, sha256=SUM)
    assert left(tmp_path) == []


def test_what_follows_a_question_mark_may_name_another_file(web: Web) -> None:
    assert pull(web.url("/d/m.bin?id=1"), progress=False).read_bytes() == DATA
    web.files["/d/m.bin"] = File(OTHER)
    assert pull(web.url("/d/m.bin?id=2"), progress=False).read_bytes() == OTHER
    assert pull(web.url("/d/m.bin?id=1"), progress=False).read_bytes() == DATA


def test_letters_of_a_url_are_encoded(web: Web) -> None:
    web.files["/d/mod%C3%A8le%20a.bin"] = File(DATA)
    for text in ("/d/mod\xe8le a.bin", "/d/mod%C3%A8le%20a.bin"):
        path = pull(web.url(text), progress=False)
        assert path.read_bytes() == DATA and path.name == "mod\xe8le a.bin"
    assert len(web.seen) == 1


# --- lengths ----------------------------------------------------------------------------------------------------------


def test_a_server_that_announces_too_much(web: Web, tmp_path: Path) -> None:
    web.files["/d/m.bin"] = File(DATA, None)
    web.faults["/d/m.bin"] = [Fault(length=len(DATA) + 5)] * download_module.TRIES
    with pytest.raises(PullError, match="announced 10245 bytes and closed after 10240"):
        pull(web.url("/d/m.bin"), progress=False)
    assert left(tmp_path) == []


def test_a_server_that_announces_too_little(web: Web, tmp_path: Path) -> None:
    web.faults["/d/m.bin"] = [Fault(length=1000)]
    with pytest.raises(ChecksumMismatch):
        pull(web.url("/d/m.bin"), progress=False, sha256=SUM)
    web.files["/d/m.gguf"] = File(b"GGUF" + (3).to_bytes(4, "little") + (1 << 20).to_bytes(8, "little") + bytes(100))
    with pytest.raises(PullError, match=r"no whole GGUF file: file is truncated"):
        pull(web.url("/d/m.gguf"), progress=False)
    assert left(tmp_path) == []


def test_no_length_at_all(web: Web, tmp_path: Path) -> None:
    web.faults["/d/m.bin"] = [Fault(length=None), Fault(length=None), Fault(length=None, cut=100)]
    with pytest.raises(PullError, match="give its sha256"):
        pull(web.url("/d/m.bin"), progress=False)
    path = pull(web.url("/d/m.bin"), progress=False, sha256=SUM)
    path.unlink()
    with pytest.raises(ChecksumMismatch):
        pull(web.url("/d/m.bin"), progress=False, sha256=SUM)
    web.faults["/d/m.bin"] = [Fault(chunked=True, cut=500), Fault(chunked=True)]
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == DATA
    assert left(tmp_path) == ["m.bin"]


@pytest.mark.parametrize("length", ["\xb2", "9" * 5000, "-5", "1_0"])
def test_a_length_that_is_no_number(web: Web, length: str) -> None:
    web.files["/d/m.bin"] = File(DATA, headers={"Content-Length": length, "X-Linked-Size": length})
    web.faults["/d/m.bin"] = [Fault(length=None)]
    with pytest.raises(PullError, match="does not say how long"):
        pull(web.url("/d/m.bin"), progress=False)


def test_an_answer_without_a_file(web: Web, tmp_path: Path) -> None:
    web.faults["/d/m.bin"] = [Fault(status=204)]
    with pytest.raises(PullError, match="answered 204"):
        pull(web.url("/d/m.bin"), progress=False)
    assert left(tmp_path) == []


def test_a_redirect_to_what_is_no_url(web: Web) -> None:
    web.files["/d/m.bin"] = File(moved="http://[h/m.bin")
    with pytest.raises(PullError, match="cannot be followed"):
        pull(web.url("/d/m.bin"), progress=False)


def test_a_coded_answer_is_refused(web: Web) -> None:
    web.files["/d/m.bin"].headers["Content-Encoding"] = "gzip"
    with pytest.raises(PullError, match="sends it as gzip"):
        pull(web.url("/d/m.bin"), progress=False)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_redirects(web: Web, tmp_path: Path) -> None:
    web.files |= {"/go": File(moved="/again"), "/again": File(moved=web.url("/d/m.bin?signed=1"))}
    path = pull(web.url("/go"), progress=False)
    assert (path.name, path.read_bytes()) == ("go", DATA)
    web.files["/loop"] = File(moved="/loop")
    with pytest.raises(PullError, match="302"):
        pull(web.url("/loop"), progress=False)
    for target, words in (("file:///etc/hostname", "redirects lead nowhere"), ("ftp://h/m.bin", "not followed")):
        web.files["/out"] = File(moved=target)
        with pytest.raises(PullError, match=words):
            pull(web.url("/out"), progress=False)
    assert left(tmp_path) == ["go"]


def test_a_redirect_does_not_lead_out_of_https(web: Web) -> None:
    request = urllib.request.Request("https://h/m.gguf")
    with pytest.raises(PullError, match="not followed"):
        Redirects().redirect_request(request, io.BytesIO(), 302, "Found", HTTPMessage(), web.url("/d/m.bin"))


@pytest.mark.parametrize(
    ("status", "words"), [(404, "spelled right"), (401, "login"), (403, "not given"), (418, "other means")]
)
def test_refusals_say_what_to_do(web: Web, status: int, words: str, tmp_path: Path) -> None:
    web.faults["/d/m.bin"] = [Fault(status=status)]
    with pytest.raises(PullError, match=f"{status}.*{words}"):
        pull(web.url("/d/m.bin"), progress=False)
    assert len(web.seen) == 1
    assert left(tmp_path) == []


def test_a_server_that_is_busy_is_asked_again(web: Web) -> None:
    web.faults["/d/m.bin"] = [Fault(status=503), Fault(status=429)]
    assert pull(web.url("/d/m.bin"), progress=False).read_bytes() == DATA
    web.faults["/d/x.bin"] = [Fault(status=503)] * download_module.TRIES
    with pytest.raises(PullError, match="503"):
        pull(web.url("/d/x.bin"), progress=False)


def test_without_a_network(web: Web, tmp_path: Path) -> None:
    url = web.url("/d/m.bin")
    web.close()
    with pytest.raises(PullError) as caught:
        pull(url, progress=False)
    path = source_of(url).path
    assert f"on a machine that has one fetch {url}, and copy it to {path}" in str(caught.value)
    path.write_bytes(DATA)  # as the message says
    assert pull(url, progress=False) == path
    assert pull(url, progress=False, sha256=SUM) == path
    path.write_bytes(OTHER)
    with pytest.raises(PullError, match="cannot be fetched"):
        pull(url, progress=False, sha256=SUM)


def test_refresh_asks_for_another_file(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    url = web.url("/d/m.bin")
    path = pull(url, progress=False)
    assert pull(url, progress=False, refresh=True) == path
    assert [(r.status, r.headers.get("if-none-match")) for r in web.seen] == [(200, None), (304, '"one"')]
    web.files["/d/m.bin"] = File(OTHER, '"two"')
    assert pull(url, progress=False).read_bytes() == DATA
    assert pull(url, progress=False, refresh=True).read_bytes() == OTHER
    web.files["/d/m.bin"] = File(DATA, None)
    path.unlink()
    pull(url, progress=False)
    pull(url, refresh=True)
    assert "nothing tells whether it has changed" in capsys.readouterr().err
    web.faults["/d/m.bin"] = [Fault(status=404)]


def test_a_failed_refresh_leaves_the_file(web: Web, tmp_path: Path) -> None:
    url = web.url("/d/m.bin")
    path = pull(url, progress=False)
    web.files["/d/m.bin"] = File(OTHER, '"two"')
    web.faults["/d/m.bin"] = [Fault(), Fault(cut=100)] + [Fault(cut=0)] * download_module.TRIES
    with pytest.raises(PullError):
        pull(url, progress=False, refresh=True)
    assert path.read_bytes() == DATA
    assert pull(url, progress=False) == path
    assert pull(url, progress=False, refresh=True).read_bytes() == OTHER
    assert left(tmp_path) == ["m.bin"]


def test_a_full_disk_is_seen_before_the_download(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(PullError, match=r"needs 10\.2 kB.* 1\.0 kB free"):
        pull(web.url("/d/m.bin"), progress=False)


# --- the hub ----------------------------------------------------------------------------------------------------------


def hub_file(web: Web, **headers: str) -> None:
    """A file of the hub that another server has (127.0.0.1 and localhost are two hosts)."""
    web.files["/cdn/blob"] = File(DATA, '"cdn"')
    web.files["/o/r/resolve/main/q/m.bin"] = File(moved=web.url("/cdn/blob", "localhost"), headers=headers)


def test_a_file_of_the_hub(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_file(web, **{"X-Linked-Etag": f'"{SUM}"', "X-Linked-Size": str(len(DATA))})
    monkeypatch.setenv("HF_TOKEN", "secret")
    path = pull("hf:o/r/q/m.bin", progress=False)
    assert path == tmp_path / "models" / "hf" / "o" / "r" / "q" / "m.bin"
    assert path.read_bytes() == DATA
    assert [r.headers.get("authorization") for r in web.seen] == ["Bearer secret", None]  # to the hub alone


def test_what_the_hub_says_of_a_file_must_hold(web: Web, tmp_path: Path) -> None:
    hub_file(web, **{"X-Linked-Etag": f'"{"0" * 64}"'})
    with pytest.raises(ChecksumMismatch):
        pull("hf:o/r/q/m.bin", progress=False)
    hub_file(web, **{"X-Linked-Size": "17"})
    with pytest.raises(PullError, match="the hub says 17 bytes, the server that has them 10240"):
        pull("hf:o/r/q/m.bin", progress=False)
    assert left(tmp_path) == []


def test_revisions_and_tokens(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["/o/r/resolve/v1.0/m.bin"] = File(DATA, needs_token="secret")
    with pytest.raises(PullError, match=r"401.*HF_TOKEN"):
        pull("hf:o/r@v1.0/m.bin", progress=False)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert pull("hf:o/r@v1.0/m.bin", progress=False).parent.name == "r@v1.0"


def test_the_hubs_own_client_is_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def url(repo: str, file: str, *, revision: str | None, endpoint: str) -> str:
        return f"{endpoint}/by-client/{repo}/{revision}/{file}"

    client = types.SimpleNamespace(hf_hub_url=url, get_token=lambda: "logged-in")
    monkeypatch.setattr("zigllama.app.remote._library", lambda: client)
    web.files["/by-client/o/r/None/m.bin"] = File(DATA, needs_token="logged-in")
    assert pull("hf:o/r/m.bin", progress=False).read_bytes() == DATA


def test_the_hubs_own_client_gives_the_same_url(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = source_of("hf:o/r@v1.0/q/m 1.gguf").url
    monkeypatch.delitem(sys.modules, "huggingface_hub")
    pytest.importorskip("huggingface_hub", reason="huggingface-hub is not installed")
    monkeypatch.setenv("HF_TOKEN", "secret")
    found = source_of("hf:o/r@v1.0/q/m 1.gguf")
    assert (found.url, found.token) == (ours, "secret")


def test_the_endpoint(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT")
    assert source_of("hf:o/r/m 1.gguf").url == f"{HUB}/o/r/resolve/main/m%201.gguf"


# --- names and the verb -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "hf:owner/file.gguf", "hf:o/r/../m.gguf", "hf:../r/m.gguf", "hf:o/r/a//m.gguf", "hf:o/r/.m.gguf",
        "hf:o/r/a\x1bm",
        "http://[h/m.gguf", "http://h:99999/m.gguf", "http://h:x/m.gguf", "http://h\xe9/m.gguf", "http://u:p@h/m.gguf",
        "https://h/m.gguf.part", "hf:o/r/m.gguf.part",
        "https://h/", "https:///m.gguf", "https://h/..%2f..%2fm.gguf", "https://h/%2e%2e", "https://h/m.gguf#md5=1",
        "https://h/m.gguf#sha256=12", f"https://h/m.gguf#sha256={'g' * 64}",
    ],
)  # fmt: skip
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument):
        pull(text)


def test_two_sums_and_sums_of_the_catalogue() -> None:
    with pytest.raises(InvalidArgument, match="two different sums"):
        pull(f"https://h/m.gguf#sha256={SUM}", sha256="0" * 64)
    with pytest.raises(InvalidArgument, match="pinned"):
        pull("smollm2", sha256=SUM)


def test_the_verb(web: Web, capsys: pytest.CaptureFixture[str]) -> None:
    url = web.url("/d/m.bin")
    assert main(["pull", url, "-q", "--json", "--sha256", SUM]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["bytes"], told["sha256"], told["etag"]) == (len(DATA), SUM, '"one"')
    assert main(["pull", url, "--refresh"]) == 0
    assert capsys.readouterr().out.strip() == told["path"]
    assert main(["pull", url, "--sha256", "12"]) == 2
    assert main(["pull", web.url("/none.bin"), "-q"]) == 4
    assert model_path(SimpleNamespace(model=url, model_flag=None)) == Path(told["path"])  # type: ignore[arg-type]
