"""The benchmarks that train, each in small: what they store, and the laws of what they measure."""

import json
import math
from dataclasses import replace

import classifier
import common
import pytest
import targets
import torch
import training
import vae
from few import ALL, ALONE, never, read, see_few
from strategies import normal
from torch.testing import assert_close

from ddpm_lite.bound import discretised_gaussian
from ddpm_lite.data import mnist, to_unit
from ddpm_lite.metrics import accuracy
from ddpm_lite.networks import VAE, Denoiser, UNetConfig
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import load_pretrained, load_task
from ddpm_lite.tasks.classifier import Classify
from ddpm_lite.training import TrainConfig, find, load_checkpoint
from ddpm_lite.training.checkpoint import checksum


@pytest.fixture(autouse=True)
def few(monkeypatch):
    see_few(monkeypatch)


# ---- networks and their results ------------------------------------------------------------------


def test_classifier(tmp_path, capsys):
    path = tmp_path / "some.safetensors"
    classifier.main(["--epochs", "1.5", "--out", str(path)])
    task, model = load_task(path)
    facts = load_checkpoint(path).facts
    assert task == replace(classifier.TASK, train=task.train, save_every=1)
    assert task.train.steps == facts["step"] == len(facts["losses"]) == 1  # of 256 digits
    assert facts["test_accuracy"] == accuracy(model, *mnist("test"))
    assert facts["epochs"] == 1.5 and facts["seed"] == 0
    assert f"test accuracy {facts['test_accuracy']:.4f}" in capsys.readouterr().out


def test_training_learns_follows_its_seed_and_says_the_loss_of_each_epoch():
    config = TrainConfig(batch_size=40, lr=1e-2, ema_decay=0.5)
    models = []
    for seed in (4, 3, 3):
        model, facts = classifier.trained(Classify(width=3, features=16, train=config), 8.5, seed)
        models.append(model)
    assert facts["step"] == 21 and len(facts["losses"]) == 7  # an epoch is 3 steps
    assert facts["losses"][-1] < 0.7 * facts["losses"][0] and not model.training
    other, one, same = (list(m.parameters()) for m in models)
    assert all(map(torch.equal, one, same)) and not any(map(torch.equal, one[:1], other))
    assert accuracy(model, *mnist("train")) > 0.3


def test_training_starts_from_its_seed():
    task = Classify(width=2, features=4, train=TrainConfig(lr=1e-12))
    model, _ = classifier.trained(task, 1, 7)
    torch.manual_seed(7)
    assert_close(list(model.parameters()), list(task.build().parameters()))


def test_targets(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "weights", lambda schedule: {"eps": torch.ones(1001).double()})
    monkeypatch.setattr(targets, "measure", lambda *_: {"w1": 0.5})
    out = tmp_path / "targets.json"
    options = ["--steps", "2", *ALONE, "--out", str(out)]
    torch.set_default_dtype(torch.float64)
    try:
        targets.main([*options, "--seeds", "2"])
        runs = read(out)["runs"]
        assert [r["seed"] for r in runs] == [0, 0, 0, 1, 1, 1] and runs[0]["output"] == "x_0"
        out.write_text(json.dumps(read(out) | {"runs": runs[1:]}))
        targets.main([*options, "--seeds", "1"])  # what was there stays
        assert read(out)["runs"] == runs
        with pytest.raises(SystemExit):
            targets.main([*options, "--steps", "3"])
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_stored_runs_of_chapter_9_are_not_trained_again(monkeypatch):
    monkeypatch.setattr(targets, "run", never)
    before = (common.RESULTS / "targets.json").read_bytes()
    monkeypatch.setattr(targets, "measure", lambda *_: {"w1": 0.5})
    try:
        targets.main(ALONE)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (common.RESULTS / "targets.json").read_bytes() == before


def test_training(tmp_path, monkeypatch):
    config = replace(training.TASK.train, batch_size=4, precision="fp32", log_every=1)
    network = UNetConfig(width=8, multipliers=(1, 1), blocks=1, embedding=8)
    task = replace(training.TASK, network=network, train=config, T=5)
    small = {"TASK": task, "SNAPSHOTS": (1,), "EARLY": 1, "CUTS": (3,), "TIMES": (1, 5)}
    for name, value in small.items():
        monkeypatch.setattr(training, name, value)
    out, folder = tmp_path / "training.json", str(tmp_path / "run")
    options = ["--steps", "2", "--images", "4", "--n", "20", "--out", str(out)]
    with pytest.raises(SystemExit):
        training.main(["measure", folder, *options])
    for name in ("run", "compare", "measure"):
        training.main([name, folder, *options])
    found = read(out)
    assert [row["step"] for row in found["snapshots"]] == found["log"]["step"] == [1, 2]
    assert len(found["snapshots"][0]["ema"]["mean"]) == len(found["t"]) == 2
    assert [swap["cut"] for swap in found["swaps"]["each"]] == [3]
    assert (tmp_path / "training-samples.npz").exists()
    training.main(["speed", "--ways", "fp32", "--rounds", "1", "--out", str(out)])
    assert min(read(out)["speed"]["images_per_s"].values()) > 0
    assert read(out)["snapshots"] == found["snapshots"]


class Constant(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x_t, t, y):
        return torch.full_like(x_t, self.value)


def test_a_mixed_network_is_one_above_the_cut_and_the_other_from_there_on():
    above, below = (Denoiser(Constant(value), linear_schedule()) for value in (1.0, 2.0))
    mixed, x = training.Mixed(above, below, 3), torch.zeros(2, 1)
    for t, value in ((1000, 1), (4, 1), (3, 2), (1, 2)):
        assert_close(mixed(x, torch.full((2,), t)), torch.full_like(x, value))


# ---- the autoencoders of chapter 5 ---------------------------------------------------------------


def test_vae(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vae, "FIXED", (392.0,))
    options = ["--epochs", "1", "--short", "2", "--n", "40", *ALONE, "--out", str(tmp_path)]
    vae.main(options)
    found, weights = read(tmp_path / "results" / "vae.json"), tmp_path / "weights"
    files = {name: weights / f"{name}.safetensors" for name in vae.TASKS}
    assert found["weights"] == {name: checksum(path) for name, path in files.items()}
    assert len(found["sets"]) == 11 and found["fixed"]["392"]["sigma2"] == 392
    model, facts = load_pretrained(files["vae"]), load_checkpoint(files["vae"]).facts
    assert found["bound"]["vae"] == vae.bound(model, mnist("test")[0], 0)
    assert facts["epochs"] == 1 and facts["command"] == found["command"]
    assert load_task(files["vae-plane"])[1].latent == 2
    before = files["vae"].read_bytes()
    monkeypatch.setattr(vae, "settle", never)  # of those that are trained again
    vae.main([*options, "--keep"])
    assert files["vae"].read_bytes() == before and "sets: vae, samples" in capsys.readouterr().out


def test_a_fixed_variance_is_not_trained():
    task = vae.FixedNoise(sigma2=5.0, width=2, hidden=5)
    model, _ = vae.fit(task, 2.0, 0)
    assert_close(model.sigma2.item(), 5.0)
    torch.manual_seed(0)
    start = task.build()
    assert not torch.equal(model.decoder[0].weight, start.decoder[0].weight)


def test_settling_gives_sigma2_the_value_of_the_greatest_bound():
    torch.manual_seed(0)
    model, images = VAE(latent=3, width=2, hidden=5), mnist("test")[0]
    vae.settle(model, images, seed=5)
    x, eps = to_unit(images)[:, None], vae.normal(len(images), 3, 5)  # the same draw of the codes
    best, bounds = model.log_sigma2.item(), []
    with torch.no_grad():
        for off in (-0.05, 0.0, 0.05):
            model.log_sigma2.fill_(best + off)
            bounds.append(model.elbo(x, eps).total.mean())
    assert bounds[1] > bounds[0] + 0.1 and bounds[1] > bounds[2] + 0.1


def test_the_bits_are_those_of_the_bound_on_8_bit_pixels():
    torch.manual_seed(0)
    model, images = VAE(latent=3, width=2, hidden=5), mnist("test")[0]
    eps = vae.normal(len(images), 3, 4)
    with torch.no_grad():
        nats = -model.elbo(to_unit(images)[:, None], eps, discretised_gaussian).total.mean()
    found = vae.bound(model, images, 4)
    assert_close(found["bits_per_dim"], float(nats) / (784 * math.log(2)), rtol=1e-5, atol=0)
    assert_close(found["elbo"], found["reconstruction"] - found["kl"], rtol=1e-4, atol=0)
    assert_close(sum(found["kl_per_latent"]), found["kl"], rtol=1e-4, atol=0)


def test_codes_of_a_fitted_normal_have_the_mean_and_covariance():
    codes = normal(500, 3) @ normal(3, 3, seed=1) + 5
    found = vae.fitted(codes.float(), 200_000, seed=0)
    assert_close(found.mean(0), codes.mean(0).float(), rtol=0, atol=0.05)
    assert_close(found.T.cov(), codes.T.cov().float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", vae.TASKS)
def test_the_shipped_weights_are_those_that_were_measured(name):
    stored, path = read(common.RESULTS / "vae.json"), find(name)
    tensors, facts = load_checkpoint(path)
    assert path.stat().st_size <= 1e6
    assert {v.dtype for v in tensors.values()} == {torch.float16}
    model, images = load_pretrained(name), ALL["test"][0][:1000]
    assert next(model.parameters()).dtype == torch.float32
    if isinstance(model, VAE):
        found = vae.bound(model, images, 0)
        for term, room in {"reconstruction": 40, "kl": 0.6, "bits_per_dim": 0.06}.items():
            assert abs(found[term] - stored["bound"][name][term]) < room
        assert abs(found["squared_error"] / found["sigma2"] - 1) < 0.15
    else:
        x = to_unit(images)[:, None]
        with torch.no_grad():
            assert (model(x) - x).square().sum((1, 2, 3)).mean() < 30
    assert facts["epochs"] and len(facts["losses"]) == facts["epochs"]
