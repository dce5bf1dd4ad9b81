"""The checks can fail: a changed coefficient in ddpm_lite is caught by the equation's own verify().

For each mutation a copy of the package with one changed line is loaded. Of the chapter's code, only
what a verify() call needs is run: its backward slice, found by names over the top-level statements.
Each slice must pass with the true package, and fail with the mutated one by naming the equation.
"""

import importlib
import sys

import mutations_of_guidance
import mutations_of_losses
import mutations_of_noise
import mutations_of_samplers
import mutations_of_workshop
import pytest
from hypothesis import Phase, settings
from mutants import PACKAGE, ROOT, Mutation, code_for, failures, package, true_failure


def listed(kind: str) -> list[Mutation]:
    """All mutations of a kind: EQUATIONS, caught in the book, or LAWS, caught in the tests."""
    parts = mutations_of_noise, mutations_of_losses, mutations_of_samplers, mutations_of_workshop
    parts += (mutations_of_guidance,)
    rows = [(module, *row) for p in parts for module, r in getattr(p, kind).items() for row in r]
    return [Mutation(*row) for row in rows]


MUTATIONS = listed("EQUATIONS")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.module}:{m.label}:{m.new[:40]}")
def test_mutation_is_caught(mutation):
    label = mutation.label
    found = ((n, f) for n, f in enumerate(failures(code_for(label), mutation)) if f)
    number, failed = next(found, (None, "nothing"))
    assert failed in (label, "an assertion")
    assert true_failure(label, number) == "", "this check fails with the true package too"


# ---- a law of the unit tests catches what no chapter states, or states in a slow check only

LAWS = listed("LAWS")


settings.register_profile(
    "one failure",
    settings.get_profile("book"),
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)


@pytest.mark.parametrize("mutation", LAWS, ids=lambda m: f"{m.label}:{m.new[:40]}")
def test_mutation_breaks_a_law(mutation, tmp_path):
    module, law = mutation.label.split(".")
    theirs = {name: sys.modules.pop(name, None) for name in (module, "strategies")}
    try:
        with package(tmp_path, mutation):
            settings.load_profile("one failure")  # a test has the profile of its definition
            test = getattr(importlib.import_module(module), law)
            with pytest.raises(AssertionError):
                test()
    finally:
        settings.load_profile("book")
        for name, before in theirs.items():
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before


WITHOUT_FORMULAS = {  # a module, or a folder: why nothing in it is mutated
    "__init__": "names alone, in every folder",
    "__main__": "the command line",
    "bugs": "wrong on purpose: each twin is found in test_doctor",
    "doctor": "held against every wrong twin and against right programs: test_doctor",
    "cli": "the command line",
    "checks": "says what is wrong, and computes nothing",
    "files": "writes files",
    "live": "pictures",
    "page": "held against PyTorch in V8, where wrong formulas are tried: test_walks_in_pages",
    "plots": "pictures",
    "terminal": "the command line",
    "verify": "compares, and computes nothing",
    "data/fitting": "cuts pictures to one size",
    "data/images": "reads files",
    "networks/classifier": "layers of torch's, in a row",
    "tasks/classifier": "data, a network and its loss, put together",
    "tasks/codes": "data, a network and its loss, put together",
    "tasks/digits": "data, a network and its loss, put together",
    "tasks/drawing": "draws in chunks, and writes pictures",
    "tasks/evaluation": "calls the measures",
    "tasks/images": "data, a network and its loss, put together",
    "tasks/inpainting": "reads files",
    "tasks/likeness": "calls the measures",
    "tasks/line": "data, a network and its loss, put together",
    "tasks/noisy": "data, a network and its loss, put together",
    "tasks/pictured": "draws and writes pictures",
    "training/checkpoint": "writes and reads files",
    "training/distributed": "processes that talk",
    "training/folder": "folders and files",
    "training/precision": "measures seconds",
    "training/runs": "folders and files",
    "training/task": "what a task has to have",
}


def modules() -> set[str]:
    """The modules of the package, as Mutation.module names them; nobody lists them."""
    found = {str(p.relative_to(PACKAGE).with_suffix("")) for p in PACKAGE.rglob("*.py")}
    return {name for name in found if not name.endswith("__init__")}


def test_every_mathematical_module_is_mutated():
    mutated, without = {m.module for m in MUTATIONS + LAWS}, set(WITHOUT_FORMULAS)
    for name in modules():
        named = name in without or name.split("/")[0] in without
        assert named != (name in mutated), f"give {name} its mutations, or name it without formulas"
    assert without - {"__init__", "doctor", "live", "page"} <= modules(), "a name of no module"


@pytest.mark.parametrize("module", sorted({m.module for m in MUTATIONS + LAWS}))
def test_every_mutation_applies_and_names_a_law_that_is_there(module):
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    for mutation in (m for m in MUTATIONS + LAWS if m.module == module):
        assert source.count(mutation.old) == 1, f"{mutation.old!r} must stand once in {module}.py"
        assert mutation.old != mutation.new
        if mutation in LAWS:
            file, law = mutation.label.split(".")
            tests = (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8")
            assert f"\ndef {law}(" in tests, mutation.label
