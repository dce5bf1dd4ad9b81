"""tools/browser.py finds or installs a browser on machines of every kind (all of them played)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import browser  # noqa: E402

DOWNLOADED = "/root/.cache/chrome"  # where Playwright puts its own
UPDATE, ATOMIC, DEBIAN = "apt-get update", "libatomic1", "chromium of Debian"
PLAYWRIGHT, DEPENDENCIES = "playwright install", "playwright install --with-deps"


class Machine:
    """What is on a machine, what the commands that install do to it, and which of them were run."""

    def __init__(self, here=(), starting=(), driver=True, works=()):
        self.here = set(here)  # programs, and files
        self.starting = set(starting)  # browsers that start, once they are here
        self.driver = driver  # whether Playwright's own program starts
        self.works = set(works)  # commands that install something
        self.run: list[str] = []

    def which(self, name: str) -> str | None:
        return name if name in self.here else None

    def attempt(self, command: list[str], seconds: int) -> tuple[bool, str]:
        if command[2] == browser.OPEN:
            path = command[3]
            return self.driver and path in self.here & self.starting, "no shared library"
        if command[2] == browser.PLAYWRIGHTS:
            return (True, DOWNLOADED) if self.driver else (False, "no libatomic")
        name = self.name(command)
        self.run.append(name)
        works = name in self.works and (self.driver or name not in (PLAYWRIGHT, DEPENDENCIES))
        if works:
            self.install(name)
        return works, "Connection closed"

    def name(self, command: list[str]) -> str:
        if command[1:3] == ["-m", "playwright"]:
            return DEPENDENCIES if "--with-deps" in command else PLAYWRIGHT
        return {"-q": UPDATE, "libatomic1": ATOMIC, "chromium": DEBIAN}[command[-1]]

    def install(self, name: str) -> None:
        if name == ATOMIC:
            self.driver = True
        if name == DEBIAN:
            self.here.add("chromium")
        if name in (PLAYWRIGHT, DEPENDENCIES):
            self.here.add(DOWNLOADED)
        if name == DEPENDENCIES:
            self.starting.add(DOWNLOADED)


@pytest.fixture
def play(monkeypatch):
    """Play a machine for browser.get(); returns what it returns."""

    def play(machine: Machine, root: bool = True, named: str | None = None) -> str | None:
        monkeypatch.setattr(browser.shutil, "which", machine.which)
        monkeypatch.setattr(browser.Path, "exists", lambda path: str(path) in machine.here)
        monkeypatch.setattr(browser, "attempt", machine.attempt)
        monkeypatch.setattr(browser, "is_root", lambda: root)
        monkeypatch.delenv(browser.VARIABLE, raising=False)
        if named:
            monkeypatch.setenv(browser.VARIABLE, named)
        return browser.get()

    return play


def test_a_browser_that_is_here_is_taken(play):
    machine = Machine(here=["google-chrome"], starting=["google-chrome"])
    assert play(machine) == "google-chrome"
    assert machine.run == []


def test_one_that_does_not_start_is_passed_over(play, capsys):
    machine = Machine(here=["chromium", "chrome"], starting=["chrome"])
    assert play(machine) == "chrome"
    assert "chromium does not start: no shared library" in capsys.readouterr().out


@pytest.mark.parametrize("path", [browser.MAC[0], DOWNLOADED])
def test_places_that_are_not_on_the_path(path, play):
    assert play(Machine(here=[path], starting=[path])) == path


def test_playwrights_own_is_fetched_first(play):
    machine = Machine(here=["apt-get"], starting=[DOWNLOADED], works=[PLAYWRIGHT])
    assert play(machine) == DOWNLOADED
    assert machine.run == [PLAYWRIGHT]


def test_a_bare_debian(play, capsys):
    """No browser, no network but Debian's, and Playwright's own program lacks libatomic."""
    machine = Machine(["apt-get"], ["chromium"], driver=False, works=[UPDATE, ATOMIC, DEBIAN])
    assert play(machine) == "chromium"
    assert machine.run == [PLAYWRIGHT, UPDATE, ATOMIC, DEBIAN]
    assert browser.ADVICE not in capsys.readouterr().out


def test_playwrights_own_lacks_libraries(play):
    works = [PLAYWRIGHT, UPDATE, ATOMIC, DEBIAN]
    machine = Machine(["apt-get"], ["chromium"], works=works)
    assert play(machine) == "chromium"
    assert machine.run == works


def test_apt_has_no_chromium(play):
    machine = Machine(["apt-get"], driver=False, works=[UPDATE, ATOMIC, DEPENDENCIES])
    assert play(machine) == DOWNLOADED
    assert machine.run == [PLAYWRIGHT, UPDATE, ATOMIC, DEBIAN, DEPENDENCIES]


def test_the_lists_of_apt_are_not_all_there(play):
    """A broken list among several: the package may be in the others."""
    machine = Machine(["apt-get"], ["chromium"], driver=False, works=[ATOMIC, DEBIAN])
    assert play(machine) == "chromium"


@pytest.mark.parametrize(("root", "programs"), [(False, ["apt-get"]), (True, [])])
def test_without_apt_or_its_rights_the_remedy_is_named(root, programs, play, capsys):
    machine = Machine(programs, ["chromium"], works=[UPDATE, ATOMIC, DEBIAN])
    assert play(machine, root=root) is None
    assert machine.run == [PLAYWRIGHT]
    assert capsys.readouterr().out.endswith(f"{browser.ADVICE}\n")
    assert "apt-get install chromium libatomic1" in browser.ADVICE


def test_when_all_fails_the_remedy_is_named_last(play, capsys):
    machine = Machine(["apt-get"], driver=False)
    assert play(machine) is None
    assert machine.run == [PLAYWRIGHT, UPDATE, ATOMIC, DEBIAN, DEPENDENCIES]
    said = capsys.readouterr().out
    assert said.count("failed: Connection closed") == 5
    assert said.endswith(f"{browser.ADVICE}\n")


def test_a_named_browser_is_the_only_one(play):
    machine = Machine(here=["/opt/mine", "chromium"], starting=["/opt/mine", "chromium"])
    assert play(machine, named="/opt/mine") == "/opt/mine"
    machine = Machine(here=["/opt/mine", "chromium"], starting=["chromium"])
    assert play(machine, named="/opt/mine") is None


def test_a_named_browser_may_need_libatomic(play):
    machine = Machine(["/opt/mine", "apt-get"], ["/opt/mine"], driver=False, works=[ATOMIC])
    assert play(machine, named="/opt/mine") == "/opt/mine"


def test_a_named_browser_that_does_not_exist_is_said(play, capsys):
    machine = Machine(here=["chromium", "apt-get"], starting=["chromium"])
    assert play(machine, named="/opt/gone") is None
    assert machine.run == []
    said = capsys.readouterr().out
    assert "CHROMIUM names /opt/gone, which does not exist" in said
    assert "env -u CHROMIUM make test" in said


# ---- one command, for real -----------------------------------------------------------------------


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_that_ends_well():
    assert browser.attempt(python("print('a\\nb')"), 60) == (True, "b")


def test_commands_that_do_not_end_well():
    assert browser.attempt(python("raise SystemExit(3)"), 60) == (False, "exit code 3")
    assert browser.attempt(python("1 / 0"), 60) == (False, "ZeroDivisionError: division by zero")
    started, said = browser.attempt(["/no/such/program"], 60)
    assert not started and "No such file" in said
    started, said = browser.attempt(python("import os; os.write(1, b'\\xff\\n'); exit(1)"), 60)
    assert not started and said == "\N{REPLACEMENT CHARACTER}"


def test_a_missing_library_is_the_line_that_says_most():
    lines = "node: error while loading shared libraries: libatomic.so.1", "Exception: closed"
    code = f"import sys; sys.exit({chr(10).join(lines)!r})"
    assert browser.attempt(python(code), 60) == (False, lines[0])


def test_a_command_that_hangs_is_a_failure(monkeypatch):
    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    started, said = browser.attempt(["playwright"], 7)
    assert not started and "7 seconds" in said


def test_a_program_that_is_no_browser_does_not_start(tmp_path, monkeypatch, capsys):
    path = tmp_path / "chromium"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    monkeypatch.setenv(browser.VARIABLE, str(path))
    assert browser.find() is None
    assert f"{path} does not start: " in capsys.readouterr().out
