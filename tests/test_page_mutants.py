"""Each check of a chapter was tried with its formula broken, as it stands now."""

import ast
import json

import page_mutants
import pytest
import torch
from mutants import chapters

RECORD = json.loads(page_mutants.RECORD.read_text(encoding="utf-8"))
SMALL = """
import torch
generator = torch.Generator().manual_seed(0)
a = torch.rand(3, generator=generator) + 1
---
def verify(label, left, right):
    assert torch.allclose(left, right), label
b = 2 * a
assert (b > 0).all()
verify("eq-double", b, a + a)
---
c = b - 1
verify("eq-nothing", c * 0, a - a)
"""


@pytest.fixture
def small():
    return [ast.parse(cell).body for cell in SMALL.split("---")]


def test_the_mutants_of_a_formula_are_caught_or_listed(small):
    rows = [page_mutants.tried(page, {"a - a -> a": "form"}) for page in page_mutants.pages(small)]
    double, nothing = rows
    assert (double["label"], double["mutants"], double["alive"]) == ("eq-double", 4, {})
    assert nothing["alive"] == {"b - 1 -> b + 1": "", "b - 1 -> b": ""}


def test_mutants_do_not_touch_the_random_state(small):
    before = torch.get_rng_state()
    for page in page_mutants.pages(small):
        page_mutants.tried(page, {})
        assert not page.outcome(page.check.own)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_check_that_fails_as_it_stands_is_named(small):
    small[1][1] = ast.parse("b = 3 * a").body[0]
    with pytest.raises(AssertionError, match="eq-double fails as it stands"):
        [page_mutants.tried(page, {}) for page in page_mutants.pages(small)]


@pytest.mark.parametrize("path", chapters(), ids=lambda path: path.stem)
def test_each_check_of_a_chapter_was_tried_as_it_stands(path):
    """Else run `python tests/page_mutants.py` with the chapter's number."""
    found = [(check.label, check.digest) for check in page_mutants.checks(chapters()[path])]
    assert [(row["label"], row["code"]) for row in RECORD[path.stem]] == found
    alive = {k: why for row in RECORD[path.stem] for k, why in row["alive"].items()}
    unexplained = {k: why for k, why in alive.items() if why not in page_mutants.REASONS}
    assert not unexplained, "sharpen the check, or say in the record why the mutant may live"
