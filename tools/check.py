"""Build the book, lint, or run everything that must pass: what the Makefile's targets do.

    python tools/check.py book    strict build into _build/html
    python tools/check.py lint    ruff (notebooks too), codespell, mypy
    python tools/check.py test    all stages, then a summary; exits with 1 if one failed

Uses the standard library alone, and the tools of the environment it runs in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import browser

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
DOCTREES = ROOT / "_build" / ".doctrees"
BIN = Path(sys.executable).parent
PYTEST = [sys.executable, "-m", "pytest", "-q"]
IN_BROWSER = ["tests/in_browser", "tests/test_lab.py"]
ELSEWHERE = [*IN_BROWSER, "tests/in_firefox"]  # not among the unit tests
COVERAGE = 95  # per cent of the lines of ddpm_lite
CELL_TIMEOUT = 120  # seconds
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CLOSING = re.compile(r"\d+ (passed|failed|error).* in \d+\.\d+s")  # pytest's last line
COUNTS = re.compile(r"(\d+) (passed|failed|error)")
PIPED = {  # how commands run; what they print is shown even if it is no UTF-8
    "cwd": ROOT,
    "text": True,
    "encoding": "utf-8",
    "errors": "replace",
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
}


@dataclass
class Stage:
    """One line of the summary."""

    name: str
    commands: Sequence[Sequence[str]] = ()
    action: Callable[[], int] | None = None
    needs: Stage | None = None  # nothing is run where that one failed
    seconds: float = 0.0
    passed: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Run all of it; whatever goes wrong is this stage's failure, and not the end."""
        print(f"\n=== {self.name} ===", flush=True)
        start = time.perf_counter()
        try:
            self.passed = self.all_pass()
        except Exception:
            traceback.print_exc(file=sys.stdout)
        self.seconds = time.perf_counter() - start

    def all_pass(self) -> bool:
        if self.needs and not self.needs.passed:
            print(f"Not run: it needs {self.needs.name}, which failed.")
            return False
        codes = [self.call(command) for command in self.commands]
        if self.action:
            codes.append(self.action())
        return not any(codes)

    def call(self, command: Sequence[str]) -> int:
        """Run one command, show what it prints, and keep pytest's counts."""
        print("$", " ".join(command).replace(f"{BIN}/", ""), flush=True)
        last = ""
        try:
            process = subprocess.Popen(command, **PIPED)
        except OSError as error:
            print(cannot_run(command, error))
            return 1
        with process:
            for line in process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                last = line if CLOSING.search(line) else last
        for number, kind in COUNTS.findall(last):
            kind = "failed" if kind == "error" else kind
            self.counts[kind] = self.counts.get(kind, 0) + int(number)
        return process.returncode


def cannot_run(command: Sequence[str], error: OSError) -> str:
    return f"{command[0]} cannot be run ({error.strerror}): remove .venv, and make makes it anew"


def tool(name: str, *arguments: str) -> list[str]:
    """A command-line tool of this environment."""
    return [str(BIN / name), *arguments]


def build_book(everything: bool = False) -> int:
    """Build the pages; warnings are errors. Shows the warnings, not the noise."""
    start = time.perf_counter()
    command = tool("jupyter-book", "build", ".", "-W", "--keep-going", "-n")
    try:
        done = subprocess.run([*command, "--all"] if everything else command, **PIPED)
    except OSError as error:
        print(f"The book was not built: {cannot_run(command, error)}")
        return 1
    seconds = time.perf_counter() - start
    if done.returncode:
        lines = COLOURS.sub("", done.stdout).splitlines()
        found = [line for line in lines if re.search("WARNING|ERROR|[A-Z]\\w+Error", line)]
        print("\n".join(found or lines[-40:]))
        print(f"The book was not built: {len(found)} warnings (each counts as an error).")
        shutil.rmtree(DOCTREES, ignore_errors=True)  # so that the next build warns again
        return 1
    print(f"The book is built ({seconds:.0f} s). Open {(HTML / 'index.html').as_uri()}")
    return 0


def find_browser() -> int:
    """A browser for the tests of the pages: found, else installed; its path goes to the tests."""
    path = browser.get()
    if path is None:
        return 1
    print(f"browser: {path}")
    os.environ[browser.VARIABLE] = path
    return 0


def lint() -> Stage:
    return Stage(
        "lint",
        [
            tool("ruff", "check", "--no-cache", "."),
            tool("ruff", "format", "--no-cache", "--check", "."),
            tool("codespell"),
            tool("mypy", "ddpm_lite"),
        ],
    )


def stages() -> list[Stage]:
    """Everything: first what a fresh machine may lack, then the quick."""
    a_browser = Stage("a browser", action=find_browser)
    unit = [*PYTEST, "tests", *(f"--ignore={path}" for path in ELSEWHERE), "-n", "2"]
    coverage = ["--cov=ddpm_lite", "--cov-report=term", f"--cov-fail-under={COVERAGE}"]
    outputs = [*PYTEST, "--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    parallel = ["-n", "2", "--dist", "loadfile"]  # a notebook's cells share a kernel
    # JupyterLab after the pages, not beside them: it starts kernels, and waits for them
    pages, lab = ([*PYTEST, part] for part in IN_BROWSER)
    in_browser = [[*pages, "-n", "2", "--dist", "loadgroup"], lab]
    return [
        a_browser,
        lint(),
        Stage("notebooks are clean", [[sys.executable, "tools/notebooks.py", "check"]]),
        Stage("unit tests", [[*unit, *parallel[2:], *coverage]]),
        Stage("stored outputs (nbval)", [[*outputs, *parallel, "book"]]),
        Stage("strict build", action=lambda: build_book(everything=True)),
        Stage("pages in a browser", in_browser, needs=a_browser),
    ]


def summary(done: Sequence[Stage]) -> int:
    """Print what ran, how long, and the verdict; the exit code."""
    counts = {kind: sum(s.counts.get(kind, 0) for s in done) for kind in ("passed", "failed")}
    print("\n=== summary ===")
    for stage in done:
        tests = f"{stage.counts.get('passed', 0):,} tests" if stage.counts else ""
        verdict = "passed" if stage.passed else "FAILED"
        print(f"{stage.name:<24}{verdict:<8}{stage.seconds:7.1f} s   {tests}")
    failed = [stage.name for stage in done if not stage.passed]
    print(f"{'all of it':<24}{'FAILED' if failed else 'passed':<8}", end="")
    print(f"{sum(stage.seconds for stage in done):7.1f} s")
    print(f"Failed: {', '.join(failed)}" if failed else "Everything passed.")
    if any(counts.values()):
        print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if failed else 0


def main() -> int:
    sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8
    os.environ["PYTHONUNBUFFERED"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"  # two test processes share the cores
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command == "book":
        return build_book()
    if command not in ("lint", "test"):
        print(__doc__)
        return 2
    plan = [lint()] if command == "lint" else stages()
    for stage in plan:
        stage.run()
    return summary(plan)


if __name__ == "__main__":
    sys.exit(main())
