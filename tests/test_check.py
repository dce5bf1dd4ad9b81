"""tools/check.py always comes to its summary, whatever a stage does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import check  # noqa: E402

MISSING = ["/no/such/tool"]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run(stage: check.Stage, capfd) -> str:
    """What a stage prints; it must never raise."""
    stage.run()
    return capfd.readouterr().out


def test_a_stage_passes_if_all_its_commands_and_its_action_do(capfd):
    good = check.Stage("good", [python("print('one')"), python("print('two')")], lambda: 0)
    said = run(good, capfd)
    assert good.passed and "one\n" in said and "two\n" in said
    for bad in (
        check.Stage("bad", [python("exit(1)"), python("")]),
        check.Stage("bad", [python("")], lambda: 1),
    ):
        run(bad, capfd)
        assert not bad.passed


def test_a_missing_tool_fails_its_stage_and_the_other_commands_run(capfd):
    stage = check.Stage("lint", [MISSING, python("print('the next')")])
    said = run(stage, capfd)
    assert not stage.passed
    assert "/no/such/tool cannot be run (No such file or directory): remove .venv" in said
    assert "the next\n" in said


def test_output_that_is_no_utf_8_is_shown(capfd):
    stage = check.Stage("unit tests", [python("import os; os.write(1, b'a\\xffb\\n')")])
    assert "a\N{REPLACEMENT CHARACTER}b\n" in run(stage, capfd)
    assert stage.passed


def test_an_exception_is_a_failed_stage(capfd):
    stage = check.Stage("strict build", action=lambda: 1 // 0)
    assert "ZeroDivisionError" in run(stage, capfd)
    assert not stage.passed


def test_a_stage_is_not_run_without_what_it_needs(capfd):
    first = check.Stage("a browser", action=lambda: 1)
    second = check.Stage("pages", [python("print('here')")], needs=first)
    run(first, capfd)
    assert "Not run: it needs a browser, which failed." in run(second, capfd)
    assert not second.passed
    first.passed = True
    assert "here\n" in run(second, capfd)
    assert second.passed


def test_counts_are_pytests_last_line(capfd):
    lines = "9 passed in 1.00s of old\\n2 failed, 30 passed, 1 error in 12.34s"
    stage = check.Stage("unit tests", [python(f"print('{lines}')")])
    run(stage, capfd)
    assert stage.counts == {"failed": 3, "passed": 30}


def test_the_browser_is_looked_for_first_and_the_pages_need_it():
    first, *others = check.stages()
    assert first.name == "a browser"
    assert [stage.needs for stage in others if stage.needs] == [first]


def test_the_path_of_the_browser_goes_to_the_tests(monkeypatch):
    monkeypatch.setenv(check.browser.VARIABLE, "/opt/old")
    monkeypatch.setattr(check.browser, "get", lambda: "/opt/new")
    assert check.find_browser() == 0
    assert os.environ[check.browser.VARIABLE] == "/opt/new"
    monkeypatch.setattr(check.browser, "get", lambda: None)
    assert check.find_browser() == 1


def test_the_book_is_not_built_without_its_tool(monkeypatch, capsys):
    monkeypatch.setattr(check, "BIN", Path("/no/such"))
    assert check.build_book() == 1
    assert "jupyter-book cannot be run" in capsys.readouterr().out


SCRIPT = """
import sys
sys.path.insert(0, "tools")
import check

def crash():
    raise UnicodeError("never seen")

check.stages = lambda: [
    check.Stage("crashes", action=crash),
    check.Stage("no tool", [["/no/such/tool"]]),
    check.Stage("no UTF-8", [[sys.executable, "-c", "import os; os.write(1, bytes([255, 10]))"]]),
    check.Stage("good", [[sys.executable, "-c", "print('3 passed in 0.01s')"]]),
]
sys.argv = ["check.py", "test"]
sys.exit(check.main())
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_all_stages_run_and_the_summary_is_the_end(encoding):
    done = subprocess.run(
        python(SCRIPT),
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        encoding=encoding,
    )
    assert done.returncode == 1, done.stderr
    *_, crashes, no_tool, no_utf, good, all_of_it, failed, counts = done.stdout.splitlines()
    assert [line.split()[-3] for line in (crashes, no_tool, no_utf)] == ["FAILED"] * 2 + ["passed"]
    assert "passed" in good and "3 tests" in good
    assert all_of_it.startswith("all of it") and "FAILED" in all_of_it
    assert failed == "Failed: crashes, no tool"
    assert counts == "3 passed, 0 failed"
