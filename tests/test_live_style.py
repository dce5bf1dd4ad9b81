"""Live figures: the script, the stylesheet and the palette of the pages."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from figures import figure

from ddpm_lite.live.palette import MAPS, PALETTE

ROOT = Path(__file__).resolve().parents[1]


def test_reading_a_figure_needs_neither_widgets_nor_torch():
    code = (
        "import sys, ddpm_lite.live.packing, ddpm_lite.live\n"
        "heavy = {'torch', 'anywidget', 'ipywidgets', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import ddpm_lite.live as live\n"
        "assert live.LiveFigure.__name__ == 'LiveFigure' and 'torch' not in sys.modules\n"
        "try: live.Nothing\n"
        "except AttributeError as error: assert 'Nothing' in str(error)\n"
        "else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_pages_script_is_classic_and_made_without_the_package():
    code = (
        "import runpy, sys\n"
        "m = runpy.run_path('book/_ext/live_figures.py')\n"
        "script, css = m['script'](), m['stylesheet']()\n"
        "assert not {'ddpm_lite', 'numpy', 'anywidget'} & set(sys.modules)\n"
        "print(script.count('export '), script.count('import '), script.count('render({ ...'))\n"
        "print(css.count('{') - css.count('}'), '--lf-truth' in css)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["0", "0", "1", "0", "True"]


def test_stylesheet_of_the_widget_is_that_of_the_page():
    extension = runpy.run_path(str(ROOT / "book" / "_ext" / "live_figures.py"))
    assert extension["stylesheet"]() == figure()._css


def linear(colour):
    """A hex colour as linear RGB."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("role", PALETTE)
def test_colours_stand_out(role):
    """WCAG asks 3 to 1 of lines that carry meaning; pictures keep the light page's colours."""
    light, dark = PALETTE[role]
    assert contrast(light, "#ffffff") >= 3
    assert contrast(light, "#14181e") >= 3
    assert contrast(dark, "#1b2027") >= 3


TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
EYES = {  # what the commonest kinds of colour blindness see (Machado et al. 2009), linear RGB
    "all": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
}


def lab(rgb):
    """CIE Lab of linear RGB: a distance of 2 is just seen, one of 15 is plain."""
    white = TO_XYZ @ [1, 1, 1]
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ np.clip(rgb, 0, 1) / white, 1e-6))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("page", [0, 1])
def test_roles_can_be_told_apart(eyes, page):
    seen = [lab(EYES[eyes] @ linear(colours[page])) for colours in PALETTE.values()]
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert np.linalg.norm(one - other) > 15


def test_maps_have_as_many_stops_on_both_pages():
    for light, dark in MAPS.values():
        assert len(light) == len(dark)
        for stops in (light, dark):
            assert all(re.fullmatch("#[0-9a-f]{6}", stop) for stop in stops)
