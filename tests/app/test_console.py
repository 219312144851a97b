"""The examples in console.py's docstrings, and the progress bar on a terminal and in a log."""

from __future__ import annotations

import doctest
import io

import pytest

from zigllama.app import advice, console
from zigllama.models import parameters


@pytest.mark.parametrize("module", [console, advice, parameters])
def test_the_examples_are_true(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_is_redrawn_in_place() -> None:
    stream = Terminal()
    with console.Progress("thing", 1_000_000, stream) as bar:
        bar.update(0)
        bar.update(500_000)
    text = stream.getvalue()
    assert text.count("\r") == 3
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert "50%" in text
    assert "500.0 kB of 1.0 MB" in text


def test_a_bar_in_a_log_is_a_line_per_quarter() -> None:
    stream = io.StringIO()
    with console.Progress("thing", 1000, stream) as bar:
        for done in range(0, 1000, 10):
            bar.update(done)
    lines = stream.getvalue().splitlines()
    assert [line.split("]")[1].split()[0] for line in lines] == ["25%", "50%", "75%", "100%"]
    assert "\r" not in stream.getvalue()


def test_a_bar_that_breaks_off_does_not_claim_to_be_done() -> None:
    stream = Terminal()

    def break_off() -> None:
        with console.Progress("thing", 1000, stream) as bar:
            bar.update(10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert "100%" not in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_sizes_do_not_round_up_to_a_thousand() -> None:
    assert console.size(999) == "999 B"
    assert console.size(1000) == "1.0 kB"
    assert console.size(999_960) == "1.0 MB"
    assert console.size(1e12) == "1000.0 GB"
