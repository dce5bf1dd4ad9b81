"""The command line: what it says of itself and of wrong requests, and its exit codes."""

import os
import re
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import FEW, one_line, train
from kinds import KINDS

from ddpm_lite import cli
from ddpm_lite.tasks import PRESETS
from ddpm_lite.training import save_checkpoint

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert train(folder, steps=4) == 0
    return folder


# ---- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_help_lists_the_commands_kinds_and_presets(capsys, arguments, code):
    assert cli.main(arguments) == code
    said = capsys.readouterr().out
    assert all(f"    ddpm-lite {name} " in said for name in cli.COMMANDS)
    for kind, presets in PRESETS.items():
        assert re.search(rf"^    {kind} +{', '.join(presets)}$", said, re.MULTILINE)
    assert "@" not in said


@pytest.mark.parametrize("kind", PRESETS)
def test_the_flags_of_a_kind_are_told_with_the_presets_values(capsys, kind):
    for preset, task in PRESETS[kind].items():
        assert cli.main(["train", kind, preset, "--help"]) == 0
        said = one_line(capsys.readouterr().out)
        assert f"usage: ddpm-lite train {kind} {preset} " in said
        assert f"Train {kind} ({preset})" in said
        assert f"--train.steps INT updates (default: {task.train.steps})" in said
        assert f"Presets of {kind}: {', '.join(PRESETS[kind])}. Kinds: digits, " in said
        assert "--no-resume" not in said


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "info"])
def test_help_is_short_and_without_names_of_the_code(capsys, command):
    assert cli.main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= (85 if command == "train" else 50)
    for name in ("asked.", "how.", "task.", "Raises"):
        assert f"--{name}" not in said
    assert "mps" not in said


# ---- wrong requests ------------------------------------------------------------------------------

BAD = {
    "no command": (["fly"], "unknown command 'fly': choose from train, sample, evaluate, info"),
    "no kind": (["train", "huge"], "unknown kind 'huge': choose from digits, images, line, "),
    "the old form": (
        ["train", "book", "--out", "x"],
        "unknown kind 'book': did you mean: ddpm-lite train digits book\\?",
    ),
    "the old full": (["train", "full"], "did you mean: ddpm-lite train digits full\\?"),
    "no preset": (["train", "vae", "huge"], "unknown preset 'huge': choose from book, plane"),
    "steps": (["train", "--train.steps", "0"], "steps must be a whole number"),
    "save": (["train", "--save-every", "3"], "save_every must be a multiple of log_every"),
    "latent": (["train", "vae", "--latent", "0", "--out", "{tmp}/v"], "latent must be at least 1"),
    "line": (["train", "line", "--width", "8000000000"], "width must lie in 1..4096"),
    "folder in use": (["train", "--out", "{run}"], "holds a run already .*: resume it, or choose"),
    "nothing to resume": (["train", "--resume", "--out", "{tmp}/no"], "nothing to resume from in"),
    "resume and flags": (
        ["train", "--resume", "--out", "{run}", "--train.lr", "1"],
        "--resume takes the run's own configuration: leave out yours",
    ),
    "foreign run": (["train", "--resume", "--out", "{tmp}/other"], "wrong config: .*heads"),
    "hostile run": (["train", "--resume", "--out", "{tmp}/wide"], r"should be .65528., is absent"),
    "endless run": (
        ["train", "--resume", "--out", "{tmp}/endless"],
        "makes no network: .*overflow",
    ),
    "train to a file": (["train", "--out", "{tmp}/file"], "cannot write .*; name another"),
    "foreign log": (["train", "--out", "{tmp}/notes"], "log.jsonl that no run of ddpm_lite wrote"),
    "no checkpoint": (
        ["sample", "--checkpoint", "nowhere"],
        "no checkpoint 'nowhere': give a .safetensors file.*classifier",
    ),
    "300 characters": (["info", "a" * 300], "no checkpoint 'aaa"),
    "a device": (["info", "/dev/zero"], "no checkpoint '/dev/zero'"),
    "draws nothing": (["sample", "--checkpoint", "classifier"], "kind 'classifier' draws nothing"),
    "damaged": (["sample", "--checkpoint", "{tmp}/file"], "is damaged or is no safetensors file"),
    "foreign": (["sample", "--checkpoint", "{tmp}/other"], "does not hold a network of this"),
    "foreign info": (["info", "{tmp}/other"], "does not hold a network of this version"),
    "empty folder": (["info", "{tmp}"], "no checkpoint '.*': give"),
    "n": (["sample", "--n", "0"], "n must be at least 1, got 0"),
    "n of a vae": (["sample", "--checkpoint", "vae", "--n", "-3"], "n must be at least 1, got -3"),
    "digits": (["sample", "--digits", "12a"], "classes must be some of 0123456789.*, got '12a'"),
    "none": (["sample", "--classes", ""], "classes must be some of 0123456789.*, got ''"),
    "no classes": (["sample", "--checkpoint", "vae", "--classes", "1"], "knows no classes: leave"),
    "suffix": (["sample", "--out", "x.jpg"], "--out must end in .png or .npz, got x.jpg"),
    "into a file": (["sample", "--out", "{tmp}/file/x.png"], "cannot write .*x.png: "),
    "device": (["sample", "--device", "tpu"], "device 'tpu' does not work here: try .*auto"),
    "mps": (["train", "--device", "mps"], "device 'mps' does not work here: try .*auto, or cpu"),
    "meta": (["sample", "--device", "meta"], "device 'meta' does not work here"),
    "cuda:99": (["sample", "--device", "cuda:99"], "device 'cuda:99' does not work here"),
    "steps > T": (["sample", "--checkpoint", "{run}", "--steps", "99"], "steps must be .*T = 12"),
    "eta": (["sample", "--checkpoint", "{run}", *FEW, "--eta", "2"], r"eta must lie in \[0, 1\]"),
    "guidance": (["sample", "--guidance", "nan"], "scale must be finite, got nan"),
    "guidance to none": (
        ["sample", "--checkpoint", "{run}", *FEW, "--digits", "none", "--guidance", "2"],
        "guidance needs labels, got 2.0 and no label: leave it out",
    ),
    "no mask": (["sample", "--inpaint", "{tmp}/file"], "--inpaint and --mask go together"),
    "no picture": (
        ["sample", "--inpaint", "{tmp}/file", "--mask", "{tmp}/file"],
        "file is no picture: give a .png or a .npz file",
    ),
    "no inpainting": (
        ["sample", "--checkpoint", "vae", "--inpaint", "a.png", "--mask", "b.png"],
        "--inpaint needs a diffusion model of images, got one of vae",
    ),
    "flag": (["sample", "--sampel", "1"], "Unrecognized options: --sampel"),
    "sampler": (["sample", "--sampler", "euler"], "invalid choice 'euler'"),
    "kept": (["evaluate", "--images", "x.png"], "--images must end in .npz, got x.png"),
    "few": (["evaluate", "{run}", "--n", "3"], r"n must lie in 20..60000, .* got 3"),
    "bound": (["evaluate", "{run}", "--bound-images", "1"], "the bound needs 2..10000 .* got 1"),
    "times": (["evaluate", "{run}", "--bound-times", "99"], r"times must be None .*1..11 strata"),
}


@pytest.fixture
def wrong_files(tmp_path, monkeypatch):
    """A file, a foreign checkpoint, a hostile one, and a folder with notes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no checkpoint")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "log.jsonl").write_text("mine\n")
    facts = {"kind": "digits", "config": {"network": {"heads": 8}}, "step": 4, "seconds": 1}
    save_checkpoint(tmp_path / "other" / "checkpoint-0000004.safetensors", {}, facts)
    many = {"width": 65_528, "patch": 1, "multipliers": [65_528] * 3}
    for name, network in {"wide": {"width": 65_528}, "endless": many}.items():
        path = tmp_path / name / "checkpoint-0000004.safetensors"
        save_checkpoint(path, {}, facts | {"config": {"network": network}})
    return tmp_path


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_a_wrong_request_ends_with_2_and_says_what_to_do(
    trained, wrong_files, capsys, arguments, message
):
    arguments = [a.format(run=trained, tmp=wrong_files) for a in arguments]
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert re.search(message, one_line(said)), said
    assert "Traceback" not in said
    assert said.count("\n") == 1 or not said.startswith("ddpm-lite: ")  # tyro draws a box


def test_ctrl_c_elsewhere_just_ends(trained, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_task", interrupted)
    assert cli.main(["sample", "--checkpoint", str(trained)]) == 130


@pytest.mark.parametrize("error", [MemoryError("5 TB"), torch.OutOfMemoryError("CUDA, 5 TB")])
def test_too_little_memory_ends_with_1_in_one_line(monkeypatch, capsys, error):
    def greedy(*args):
        raise error

    monkeypatch.setattr(cli, "load_task", greedy)
    assert cli.main(["sample"]) == 1
    assert capsys.readouterr().err == f"ddpm-lite: {error}\n"


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_damaged_mnist_ends_with_1_in_one_line(tmp_path, capsys, monkeypatch, command):
    module = import_module("ddpm_lite.data.digits")
    monkeypatch.setattr(module, "files", lambda name: tmp_path)
    module._mnist.cache_clear()
    assert cli.main([command, "--out", str(tmp_path / "x")]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"ddpm-lite: MNIST file is missing: .*; reinstall .*\n", said)
    module._mnist.cache_clear()


@pytest.mark.parametrize("works", ["cuda", "cpu"])
def test_auto_is_the_first_device_that_works(monkeypatch, works):
    asked = []

    def zeros(*_, device, **__):
        asked.append(device)
        if device not in (works, "cpu"):
            raise AssertionError("Torch not compiled with CUDA enabled")
        return SimpleNamespace(device=device)

    monkeypatch.setattr(torch, "zeros", zeros)
    assert cli.device_of("auto") == works
    assert asked == (["cuda"] if works == "cuda" else ["cuda", "cpu"])


def test_mps_is_not_even_tried(monkeypatch):
    """It holds no float64, as the schedules' tables are."""
    monkeypatch.setattr(torch, "zeros", lambda *_, device, **__: SimpleNamespace(device=device))
    with pytest.raises(ValueError, match="device 'mps' does not work here"):
        cli.device_of("mps")


# ---- how it is started ---------------------------------------------------------------------------

MODULE = ["-m", "ddpm_lite"]
SCRIPT = ["-c", "import sys; from {0} import {1} as main; sys.exit(main())"]


def script() -> list[str]:
    """What the console script of pyproject.toml does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [SCRIPT[0], SCRIPT[1].format(*project["scripts"]["ddpm-lite"].split(":"))]


def started(how: list[str], *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, *how, *arguments]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's "&" may ignore it
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, preexec_fn=heard
    )


@pytest.mark.parametrize("how", [MODULE, script()], ids=["module", "script"])
def test_the_script_and_the_module_are_the_same_command(how):
    done = started(how, "fly")
    assert done.returncode == 2 and "unknown command 'fly'" in done.stderr


@pytest.mark.parametrize("how", [MODULE, script()], ids=["module", "script"])
@pytest.mark.parametrize("module", ["torch", "tyro"])
def test_ctrl_c_during_the_imports_ends_with_130_and_no_word(tmp_path, how, module):
    """A module that is interrupted while it is imported, and would go on for ever."""
    name = tmp_path / f"{module}.py"
    name.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass\n")
    done = started(how, "fly", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_ignored_ctrl_c_stays_ignored():
    """As under nohup."""
    before = signal.getsignal(signal.SIGINT)
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from ddpm_lite.__main__ import main; main()\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN"
    )
    done = started(["-c", code], "--help")
    assert done.returncode == 0, done.stderr
    assert signal.getsignal(signal.SIGINT) is before


def test_it_starts_without_what_it_does_not_need():
    """A module more may cost a second at each start."""
    code = "import sys, ddpm_lite.cli; print({'scipy', 'matplotlib', 'IPython'} & {*sys.modules})"
    assert started(["-c", code]).stdout.strip() == "set()"


def test_a_task_is_configured_by_its_own_flags():
    """The fields of each kind are flags, under their own names."""
    for kind, presets in PRESETS.items():
        task = next(iter(presets.values()))
        asked = cli._parse("train", kind, "--train.seed", "7", "--save-every", "1200").task
        assert asked == replace(task, save_every=1200, train=replace(task.train, seed=7))
    assert set(PRESETS) <= set(KINDS) | {"images"}
