"""The networks of pages in Firefox: their numbers, and what the book's pages draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import numbers, points
from networks import CASES
from pages import DRAWING, HTML, states_of
from torch.testing import assert_close
from v8 import KERNEL, RUN, rounded, text

from ddpm_lite.page import export


@pytest.mark.parametrize("by", [KERNEL, None], ids=["wasm", "plain"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_it_is_pytorch_s(firefox, case, by):
    net, inputs = case()
    net = rounded(net)
    program, weights = export(net, [x[:2] for x in inputs.values()])
    given = {k: text(v) for k, v in inputs.items()}
    firefox.open("about:blank")
    script = RUN + "return once(...arguments);"
    found = firefox.run(script, program, text(weights), text(by), given)
    expected = net(*inputs.values()).detach()
    assert_close(torch.tensor(found).reshape(expected.shape), expected, rtol=0, atol=1e-4)


# Press the button of the k-th figure that has a network, and wait; what it then shows.
DRAW = """
const box = document.querySelectorAll(".lf-static[data-network]")[arguments[0]];
const until = async (look) => {
  for (;;) {
    const found = look();
    if (found) return found;
    await new Promise((go) => setTimeout(go, 50));
  }
};
box.scrollIntoView();
const figure = await until(() => box.querySelector(".lf[data-network]"));
figure.querySelector(".lf-go").click();
await until(() => ["idle", "asleep"].includes(figure.dataset.network));
if (figure.dataset.network !== "idle") return { failed: figure.innerText };
const canvas = figure.querySelector(".lf-sheet canvas");
if (!canvas) return {
  d: figure.querySelector('[data-mark="0"] .lf-line').getAttribute("d"),
  width: +figure.querySelector(".lf-inner").getAttribute("width") };
const { width, height } = canvas;
const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
return { width, height, grey: [...data].filter((_, i) => i % 4 === 0) };
"""


def check_points(found: dict, wanted: np.ndarray, xlim: tuple[float, float]) -> None:
    """To a pixel."""
    x = (wanted - xlim[0]) / (xlim[1] - xlim[0]) * found["width"]
    assert np.abs(points(found["d"])[:, 0] - x).max() <= 1


def check_pictures(found: dict, wanted: np.ndarray, gap: int = 1) -> None:
    """To two levels of grey (the still has one of its own)."""
    sheet = np.array(found["grey"], float).reshape(found["height"], found["width"])
    (rows, columns, h, w), levels = wanted.shape, np.clip((wanted + 1) * 127.5, 0, 255)
    for r, c in np.ndindex(rows, columns):
        cell = sheet[r * (h + gap) :, c * (w + gap) :][:h, :w]
        assert np.abs(cell - levels[r, c]).max() <= 2


@pytest.mark.parametrize("name", DRAWING)
def test_the_page_draws_what_python_drew(firefox, name):
    firefox.open(f"{HTML.as_uri()}/{name}")
    states = [state for state in states_of(name) if "network" in state["spec"]]
    for k, state in enumerate(states):
        spec, sizes = state["spec"], [len(c["values"]) for c in state["spec"]["controls"]]
        panel, field = spec["panels"][spec["network"]["panel"]], spec["network"]["field"]
        wanted = numbers(panel["marks"][0]["fields"][field], sizes, state["pos"])
        found = firefox.run(DRAW, k)
        assert "failed" not in found, found
        if "d" in found:
            check_points(found, wanted, panel["xlim"])
        else:
            check_pictures(found, wanted)
