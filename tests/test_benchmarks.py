"""The benchmarks that draw and time digits, each in small; and what all benchmarks share."""

import json
import re
from functools import partial
from importlib import import_module
from pathlib import Path

import bugs
import candidate
import common
import ddim
import digits
import gemm
import numpy as np
import precision
import pytest
import samplers
import timing
import torch
import unet
from few import ALONE, never, read, see_few
from torch.testing import assert_close

from ddpm_lite.tasks import Drawing
from ddpm_lite.times import timestep_grid
from ddpm_lite.training import find
from ddpm_lite.training.checkpoint import checksum

SCRIPTS = sorted(p.stem for p in (Path(common.__file__).parent).glob("*.py"))


@pytest.fixture(autouse=True)
def few(monkeypatch):
    see_few(monkeypatch)


# ---- what they share -----------------------------------------------------------------------------


def test_the_help_is_the_docstring_and_it_names_every_flag(capsys):
    """The line to type is in it, whole."""
    for name in SCRIPTS:
        script = import_module(name)
        if not hasattr(script, "main"):
            continue
        with pytest.raises(SystemExit):
            script.main(["--help"])
        _, options = capsys.readouterr().out.split("options:")
        missing = [f for f in re.findall(r"--[a-z]+", options) if f not in script.__doc__]
        assert set(missing) <= {"--help"}, (name, missing)
        assert f"python benchmarks/{name}.py" in script.__doc__


def test_results_are_added_to_and_those_of_other_weights_are_not_touched(tmp_path, capsys):
    path, about = tmp_path / "new" / "some.json", {"weights": "a", "command": "one"}
    make = partial(common.Results, path, same=("weights",), parts=("table",))
    make(about).keep({"n": 3}, "table", "row")
    again = make(about | {"command": "two"})
    assert again.holds("table", "row", n=3) and not again.holds("table", "row", n=4)
    assert not again.holds("table", "other") and again.at("table", "other", "n") == {}
    again.keep({"n": 5}, "table", "other")
    assert read(path) == about | {"command": "two", "table": {"row": {"n": 3}, "other": {"n": 5}}}
    before = path.read_bytes()
    with pytest.raises(ValueError, match="results of another weights: give another --out"):
        make({"weights": "b"})
    path.write_text("[1")
    with pytest.raises(ValueError, match="no file of results"):
        make(about)
    path.write_bytes(before)
    with pytest.raises(ValueError, match="cannot write .* it is a folder"):
        common.Results(tmp_path)
    assert [p.name for p in path.parent.iterdir()] == ["some.json"]


def test_the_measures_take_turns_and_the_first_round_does_not_count():
    order, values = [], iter(range(100))

    def measure(name):
        order.append(name)
        return next(values)

    found = timing.in_rounds({name: partial(measure, name) for name in "ab"}, 2)
    assert order == list("ababab") and found == {"a": [2, 4], "b": [3, 5]}
    assert timing.medians(found) == {"a": 3, "b": 4}


def test_digits_do_not_depend_on_who_draws_them():
    """Another process draws what this one does; each part has a seed of its own."""
    labels, how, found = torch.arange(4) % 2, Drawing(steps=1, seed=3), []
    for workers, size in ((1, 4), (2, 4), (1, 2)):
        with common.crew(workers) as share:
            call = partial(common.drawn, how=how)
            parts = common.in_parts(share, call, labels, how.seed, "digits", size)
        found.append(torch.cat([images for images, _ in parts]))
    here, there, halves = found
    assert torch.equal(here, there) and torch.equal(here[:2], halves[:2])
    assert torch.equal(halves[2:], common.drawn(labels[2:], 3001, how)[0])
    assert not torch.equal(halves[2:], here[2:])


# ---- the digits ----------------------------------------------------------------------------------


def test_digits(tmp_path, monkeypatch):
    for name, (step, _, limit) in digits.SAMPLERS.items():
        monkeypatch.setitem(digits.SAMPLERS, name, (step, 1, limit))
    out = tmp_path / "digits.json"
    sizes = ["--n", "22", "--variants", "20", "--images", "0", "--more", "2", "--strata", "3"]
    digits.main([*sizes, *ALONE, "--out", str(out)])
    found = read(out)
    assert set(found["variants"]) == set(digits.SAMPLERS) and set(found["full"]) == set(digits.FULL)
    assert found["weights"] == checksum(find("digits")) and found["floor"]["even"]["n"] == 22
    assert len(found["bound"]["strata"]["per_t"]["t"]) == 3
    assert found["command"].startswith("python benchmarks/digits.py --n 22")
    monkeypatch.setattr(digits, "in_parts", never)
    digits.main([*sizes, *ALONE, "--out", str(out)])
    with pytest.raises(AssertionError, match="stored already"):
        digits.main([*sizes, "--strata", "4", *ALONE, "--out", str(out)])
    with pytest.raises(SystemExit):
        digits.main([*sizes, "--seed", "1", *ALONE, "--out", str(out)])
    assert read(out) == found


def test_ddim(tmp_path, monkeypatch, capsys):
    out, sizes = tmp_path / "ddim.json", ["--n", "20", *ALONE]
    ddim.main([*sizes, "--steps", "2", "1", "--out", str(out)])
    one = ["--steps", "1", "--samplers", "eta = 0", "--out", str(out)]
    ddim.main([*sizes, *one, "--grid", "leading", "--unclipped"])
    tables = read(out)["tables"]
    assert list(tables) == ["even", "leading, unclipped"]
    assert all(list(row) == ["1", "2"] for row in tables["even"].values())
    assert len(read(out)["commands"]) == 2 and list(read(out)["floor"]) == ["20"]
    monkeypatch.setattr(ddim, "in_parts", never)
    ddim.main([*sizes, *one])
    with pytest.raises(SystemExit):
        ddim.main([*sizes, "--steps", "0"])
    assert "steps must be a whole number in 1..T" in capsys.readouterr().err


def test_all_samplers_start_alike_and_a_first_step_needs_no_memory(monkeypatch):
    """In one step, and in the first of more, DPM-Solver++ is DDIM without noise."""
    monkeypatch.setattr(common, "CHUNK", 2)  # the second chunk too, whatever noise the first took
    labels = torch.arange(4)
    drawn = partial(ddim.drawn, labels, 5, limit=1.0, device="cpu")
    ends = {name: drawn(name=name, times=timestep_grid(1000, 1)) for name in ddim.SAMPLERS}
    for images in ends.values():  # x_0_hat of the same x_T
        assert_close(images.int(), ends["eta = 0"].int(), rtol=0, atol=1)
    two, free = timestep_grid(1000, 2), partial(ddim.drawn, labels, 5, device="cpu")
    images = free(name="eta = 0", times=two, limit=None).int()
    assert_close(free(name="DPM-Solver++", times=two, limit=None).int(), images, rtol=0, atol=1)
    assert (drawn(name="eta = 1", times=two).int() - images).abs().max() > 20


def test_precision(tmp_path, monkeypatch):
    out = tmp_path / "precision.json"
    options = ["--n", "20", "--steps", "2", *ALONE, "--out", str(out)]
    precision.main(options)
    found = read(out)
    assert 0 < found["pixel_levels"] < 5 and found["floor"]["n"] == 20
    images, labels = common.drawn(*asked(20), Drawing(steps=2))[0], asked(20)[0]
    measured = common.rounded(common.Quality()(images, labels))
    assert measured.items() <= found["precisions"]["fp32"].items()
    assert found["precisions"]["bf16"].keys() == found["precisions"]["fp32"].keys()
    monkeypatch.setattr(precision, "compare", never)
    precision.main(options)
    with pytest.raises(AssertionError, match="stored already"):
        precision.main([*options, "--steps", "3"])


def asked(n):
    """Labels, and the seed of the first part."""
    return candidate.random_labels(n, 0), 0


def test_a_candidate(tmp_path, monkeypatch, capsys):
    out = tmp_path / "candidates.json"
    options = ["--n", "20", "--steps", "2", "1", "--seeds", "0", "1", "--out", str(out), *ALONE]
    bound = ["--bound", "2", "--strata", "2"]
    candidate.main(["digits", *options, *bound])
    table, found = capsys.readouterr().out.splitlines()[-7:], read(out)
    (name, made), floor = *found["candidates"].items(), found["floor"]["20"]
    assert name == checksum(find("digits")) and made["step"] == 12000
    rows = [line.split() for line in table[1:]]
    assert [row[:2] for row in rows] == [[s, k] for s in "21" for k in ("0", "1", "mean")]
    numbers = [[float(v) for v in row[2:]] for row in rows]
    assert_close(torch.tensor(numbers[:2]).mean(0), torch.tensor(numbers[2]), rtol=0, atol=1e-4)
    one = made["digits"]["n = 20, 2 steps, seed 1"]
    shares = one["frechet"] / floor, one["accuracy"], one["variety"] / found["real"]["variety"]
    assert_close(numbers[1][:3], list(shares), rtol=0, atol=1e-4)
    assert_close(
        numbers[1][3], made["bound"]["n = 2, 2 strata, seed 1"]["total"], rtol=0, atol=1e-4
    )
    monkeypatch.setattr(common, "in_parts", never)
    candidate.main(["digits", *options, "--bound", "0"])
    assert "bits/dim" not in capsys.readouterr().out
    for wrong, why in (["vae"], "of kind vae"), (["none"], "no checkpoint"):
        with pytest.raises(SystemExit):
            candidate.main([*wrong, *options])
        assert why in capsys.readouterr().err


@pytest.mark.parametrize("name", ["digits", "ddim", "vae", "bugs"])
def test_the_stored_results_are_of_the_shipped_weights(name):
    stored = read(common.RESULTS / f"{name}.json")["weights"]
    for weights, value in ({"digits": stored} if name != "vae" else stored).items():
        assert checksum(find(weights)) == value, weights


# ---- speed ---------------------------------------------------------------------------------------

SMALL = ["--threads", "1", "--rounds", "1", "--digits", "1", "--steps", "1"]


def test_unet(tmp_path, monkeypatch):
    monkeypatch.setattr(unet, "gemm_peak", lambda dtype, device: (1, 1e9))
    monkeypatch.setattr(unet, "EACH", 1)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)  # a minute else
    out = tmp_path / "speed.json"
    unet.main([*SMALL, "--batch", "1", "--compile", "--out", str(out)])
    found = read(out)
    stored = read(common.RESULTS / "speed.json")
    assert stored.keys() == found.keys() and found["command"].endswith(f"--out {out}")
    assert found["networks"].keys() == {*stored["networks"], "ours, compiled"}
    for name, row in stored["networks"].items():
        assert all(found["networks"][name][key] == row[key] for key in ("parameters", "mflop"))
    assert found["precisions"]["bf16"].keys() >= stored["precisions"]["bf16"].keys()


def test_samplers(tmp_path):
    out = tmp_path / "samplers.json"
    samplers.main([*SMALL, "--steps", "2", "--out", str(out)])
    found, stored = read(out), read(common.RESULTS / "samplers.json")
    assert found.keys() == stored.keys() and found["networks"] == stored["networks"]
    assert found["largest_difference"] < 1e-4 and found["ratio"][samplers.OURS] == 1
    assert found["seconds"].keys() == stored["seconds"].keys()


def test_gemm(monkeypatch, capsys):
    monkeypatch.setattr(gemm, "SIZES", (16, 32))
    monkeypatch.setattr(gemm, "gemm_peak", partial(gemm.gemm_peak, seconds=0.01))
    gemm.main(["--threads", "1"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["precision"] for line in lines] == ["fp32", "bf16"]


def test_bugs(tmp_path, monkeypatch):
    """One bug of training and one of sampling; what is there stays."""
    monkeypatch.setattr(bugs, "LABELS", torch.arange(20) % 10)
    monkeypatch.setattr(bugs, "BATCHES", 2)
    out = tmp_path / "bugs.json"
    bugs.main(["--steps", "1", "--names", "one z", "no root", "--out", str(out)])
    found = json.loads(out.read_text("utf-8"))["bugs"]
    assert set(found) == {"one z", "no root"} and "loss" not in found["one z"]
    assert 0 < found["no root"]["loss"] < 1 and found["no root"]["loss_deviation"] > 0
    pictures = dict(np.load(out.with_suffix(".npz")))
    assert {k: v.shape for k, v in pictures.items()} == dict.fromkeys(found, (10, 28, 28))
    before = out.read_bytes()
    bugs.main(["--steps", "1", "--names", "one z", "--out", str(out)])
    assert json.loads(out.read_bytes())["bugs"] == json.loads(before)["bugs"]
