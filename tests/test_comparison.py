"""When two pictures, or two live figures, are the same: what book/conftest.py lets pass."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from small_book import compare


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_pictures_may_differ_as_rasterisers_do():
    rng = np.random.default_rng(0)
    pixels = rng.integers(20, 230, (64, 96, 4))
    noise = rng.integers(-1, 2, pixels.shape)
    assert compare.picture_difference(png(pixels), png(pixels + noise)) == ""


def test_a_thin_stale_curve_is_another_picture():
    pixels = np.full((200, 400, 4), 255)
    moved = pixels.copy()
    pixels[100:102, 50:90], moved[108:110, 50:90] = 0, 0  # 0.1 % of the pixels
    assert "differs around pixel" in compare.picture_difference(png(pixels), png(moved))
    assert "size" in compare.picture_difference(png(pixels), png(pixels[:, :-1]))


def field(values: np.ndarray, bits: int = 16):
    from ddpm_lite.live.packing import pack_field

    return pack_field(values, [len(values)], bits)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_live_numbers_may_differ_in_the_last_place(bits):
    values = np.random.default_rng(0).normal(size=(6, 40))
    values[2, 3] = np.nan
    close = values * (1 + 1e-12)
    assert compare.field_difference(field(values, bits), field(close, bits), [6]) == ""
    other = values.copy()
    other[4] += 0.02 * np.ptp(values[4])
    assert "in frame (4" in compare.field_difference(field(values, bits), field(other, bits), [6])
    gap = values.copy()
    gap[0, 0] = np.nan
    assert "NaN" in compare.field_difference(field(values, bits), field(gap, bits), [6])


def test_a_field_stored_once_may_come_out_once_a_frame():
    constant = np.ones((6, 40)) * np.linspace(0, 1, 40)
    nearly = constant.copy()
    nearly[3, 7] += 2e-5  # a step of 16 bits
    assert field(constant)["axes"] != field(nearly)["axes"]
    assert compare.field_difference(field(constant), field(nearly), [6]) == ""


def test_specifications_must_be_equal():
    spec = {"title": "a", "xlim": [0.0, 1.0], "ticks": [[1, "1"]]}
    assert compare.spec_difference(spec, {**spec, "xlim": [0.0, 1.0 + 1e-7]}, []) == ""
    for change in ({"title": "b"}, {"xlim": [0.0, 1.1]}, {"ticks": [[1, "2"]]}, {"more": 1}):
        assert compare.spec_difference(spec, {**spec, **change}, []) != ""
