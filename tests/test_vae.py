"""The autoencoder and the VAE: their bound by other routes, training in small, stored weights."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from strategies import bad, check_bad, normal
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ddpm_lite.bound import bits_per_dim, discretised_gaussian
from ddpm_lite.data import mnist, to_unit
from ddpm_lite.networks import VAE, Autoencoder, reparameterise
from ddpm_lite.tasks import PRESETS, Drawing, load_pretrained, load_task
from ddpm_lite.tasks.codes import AutoencoderTask, VAETask, negative_elbo, squared_error
from ddpm_lite.training import load_checkpoint, train
from ddpm_lite.training.checkpoint import WEIGHTS, checksum

RESULTS = WEIGHTS.parent / "results" / "vae.json"
NAMES = ("vae", "vae-plane", "autoencoder")


def small(make=VAE, **options):
    torch.manual_seed(0)
    return make(**{"latent": 3, "width": 2, "hidden": 5} | options).double().eval()


def digits(n: int) -> torch.Tensor:
    return to_unit(mnist("test")[0][:n])[:, None].double()


def test_codes_and_images_have_the_sizes_asked_for():
    x = digits(4)
    assert small(Autoencoder).encode(x).shape == (4, 3)
    mean, var = small(latent=2).encode(x)
    assert mean.shape == var.shape == (4, 2) and (var > 0).all()
    for make in (Autoencoder, VAE):
        model = small(make)
        assert model(x).shape == x.shape and model(x[:0]).shape == (0, 1, 28, 28)
        drawn = model.decode(100 * normal(50, 3))
        assert drawn.shape == (50, 1, 28, 28) and drawn.abs().max() <= 1
        assert_close(model(x)[1:2], model(x[1:2]))


def test_an_image_is_decoded_from_its_code():
    x, plain, model = digits(3), small(Autoencoder), small()
    assert_close(plain(x), plain.decode(plain.encode(x)), rtol=0, atol=0)
    assert_close(model(x), model.decode(model.encode(x)[0]), rtol=0, atol=0)


def test_gradients_reach_every_parameter():
    for make in (Autoencoder, VAE):
        model, x = small(make, hidden=16), digits(8)
        loss = model.elbo(x, normal(8, 3)).total.sum() if make is VAE else model(x).sum()
        loss.backward()
        assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_a_reparameterised_draw_has_its_law_and_its_gradient():
    mean, var = (torch.tensor([a, b], requires_grad=True) for a, b in ((1.0, -2.0), (0.25, 4.0)))
    eps = normal(100_000, 2)
    z = reparameterise(mean, var, eps)
    assert_close(z.mean(0).float(), mean, rtol=0, atol=0.03)
    assert_close(z.var(0).float(), var, rtol=0.02, atol=0)
    by_mean, by_var = torch.autograd.grad(z.sum(), (mean, var))
    assert_close(by_mean, torch.full((2,), 1e5))
    assert_close(by_var, (eps.sum(0) / (2 * var.double().sqrt())).float())


# ---- the bound -----------------------------------------------------------------------------------


def test_the_terms_of_the_bound_by_other_code():
    model, x, eps = small(), digits(5), normal(5, 3)
    found = model.elbo(x, eps)
    mean, var = model.encode(x)
    q = Normal(mean, var.sqrt())
    pixels = Normal(model.decode(mean + var.sqrt() * eps), model.sigma2.sqrt()).log_prob(x)
    assert_close(found.reconstruction, pixels.sum((1, 2, 3)))
    assert_close(found.kl, kl_divergence(q, Normal(0.0, 1.0)).sum(1))
    assert_close(found.total, found.reconstruction - found.kl)


def test_the_bound_is_below_the_evidence_and_its_weights_average_to_it():
    """One latent number: the evidence is a sum over a grid."""
    model, x = small(latent=1), digits(1)
    with torch.no_grad():
        model.log_sigma2.fill_(3.0)  # pixels so noisy that the posterior is wide
        z = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
        sd = model.sigma2.sqrt()

        def log_joint(z):
            pixels = Normal(model.decode(z), sd).log_prob(x).sum((1, 2, 3))
            return pixels + Normal(0.0, 1.0).log_prob(z)[:, 0]

        evidence = log_joint(z).logsumexp(0) + math.log(18 / 4000)
        eps = normal(4000, 1)
        bound = model.elbo(x.expand(4000, -1, -1, -1), eps).total
        mean, var = model.encode(x)
        z = reparameterise(mean, var, eps)
        log_w = log_joint(z) - Normal(mean, var.sqrt()).log_prob(z)[:, 0]
    error = float(bound.std()) / 4000**0.5
    assert bound.mean() < evidence - 4 * error
    assert_close(log_w.logsumexp(0) - math.log(4000), evidence, rtol=0, atol=0.02)
    assert abs(log_w.mean() - bound.mean()) < 4 * math.hypot(error, float(log_w.std()) / 4000**0.5)


def test_another_decoder_changes_the_reconstruction_alone():
    model, x, eps = small(), digits(5), normal(5, 3)
    found = model.elbo(x, eps, decoder=discretised_gaussian)
    mean, var = model.encode(x)
    pictures = model.decode(reparameterise(mean, var, eps))
    mass = discretised_gaussian(x, pictures, model.sigma2).sum((1, 2, 3))
    assert_close(found.reconstruction, mass)
    assert_close(found.kl, model.elbo(x, eps).kl)
    assert (mass < 0).all()  # a probability, not a density


def test_the_gradient_in_the_noise_vanishes_at_the_mean_square():
    model, x, eps = small(), digits(6), normal(6, 3)
    pictures = model.decode(reparameterise(*model.encode(x), eps))
    with torch.no_grad():
        model.log_sigma2.copy_((x - pictures).square().mean().log())
    slope = torch.autograd.grad(model.elbo(x, eps).total.sum(), model.log_sigma2)[0]
    assert abs(slope) < 1e-8


# ---- their training ------------------------------------------------------------------------------


def test_the_losses_by_other_code():
    x, eps, plain, model = digits(5), normal(5, 3), small(Autoencoder), small()
    distance = torch.cdist(plain(x).flatten(1), x.flatten(1)).diagonal()
    assert_close(squared_error(plain, x), (distance**2).mean())
    assert_close(squared_error(plain, x, eps), squared_error(plain, x))
    found = model.elbo(x, eps)
    assert_close(negative_elbo(model, x, eps), (found.kl - found.reconstruction).mean())


@pytest.mark.parametrize("make", [VAETask, AutoencoderTask])
def test_a_batch_is_digits_and_an_eps_for_each_code(make):
    x, eps = make(latent=3).batches(torch.device("cpu"))[0](400, torch.Generator().manual_seed(0))
    assert x.shape == (400, 1, 28, 28) and x.min() == -1 and x.max() == 1
    assert eps.shape == (400, 3) and abs(eps.mean()) < 4 / 1200**0.5 and abs(eps.std() - 1) < 0.1


@pytest.mark.parametrize(("make", "share"), [(VAETask, 0.95), (AutoencoderTask, 0.75)])
def test_they_learn_what_digits_look_like(make, share):
    """Better than the mean digit, which is the best picture of all that knows no code."""
    task = make(latent=8)
    how = replace(task.train, steps=250, warmup=20, ema_decay=0.95, log_every=250)
    torch.manual_seed(3)
    (log,) = train(task.build(), *task.batches(torch.device("cpu")), how)
    x = to_unit(mnist("test")[0][:500])[:, None]
    mean = to_unit(mnist("train")[0][:5000]).mean(0)
    with torch.no_grad():
        error = squared_error(log.ema, x)
    assert error < share * (x - mean).square().sum((1, 2, 3)).mean()


def test_a_vae_draws_from_its_prior():
    task, model = load_task("vae-plane")
    (images,) = task.sample(model, Drawing(seed=4), torch.arange(6))
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = ((model.decode(z)[:, 0].clamp(-1, 1) + 1) * 127.5).round().byte()
    assert torch.equal(images, expected)
    assert [len(part) for part in task.sample(model, Drawing(), 250)] == [100, 100, 50]


# ---- the weights in the package ------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_weights_are_those_that_were_measured(name):
    path = WEIGHTS / f"{name}.safetensors"
    tensors, facts = load_checkpoint(path)
    stored = json.loads(RESULTS.read_text("utf-8"))
    assert path.stat().st_size <= 1e6
    assert {v.dtype for v in tensors.values()} == {torch.float16}
    assert checksum(path) == stored["weights"][name]
    (task, model), x = load_task(name), to_unit(mnist("test")[0][:1000])[:, None]
    preset = PRESETS[facts["kind"]]["plane" if "plane" in name else "book"]
    assert replace(task, train=preset.train, save_every=preset.save_every) == preset
    assert facts["config"].items() <= asdict(preset).items()
    assert next(model.parameters()).dtype == torch.float32
    with torch.no_grad():
        if isinstance(model, VAE):
            eps, row = normal(1000, model.latent, dtype=torch.float32), stored["bound"][name]
            terms, pixels = model.elbo(x, eps), model.elbo(x, eps, discretised_gaussian)
            assert abs(terms.reconstruction.mean() - row["reconstruction"]) < 40
            assert abs(terms.kl.mean() - row["kl"]) < 0.6
            assert abs(bits_per_dim(-pixels.total.mean(), 784) - row["bits_per_dim"]) < 0.06
            assert abs(model.sigma2 - row["sigma2"]) < 1e-4
        else:
            assert squared_error(model, x) < 30
    assert facts["epochs"] and len(facts["losses"]) == facts["epochs"]


def test_the_card_says_what_the_files_say():
    card, stored = (WEIGHTS / "vae.md").read_text("utf-8"), json.loads(RESULTS.read_text("utf-8"))
    for name in NAMES:
        facts = load_checkpoint(WEIGHTS / f"{name}.safetensors").facts
        config = facts["config"]
        assert f"`{name}.safetensors`" in card and f"{facts['epochs']} epochs" in card
        assert f"{config['latent']} latent" in card
        count = sum(p.numel() for p in load_pretrained(name).parameters())
        assert f"{count:,}" in card
    for name, row in stored["bound"].items():
        assert f"{row['bits_per_dim']:.2f} bits/dim" in card, name
        assert f"{row['kl']:.1f} nats" in card, name
    for name in ("vae, samples", "autoencoder, fitted normal"):
        assert f"{stored['sets'][name]['frechet']:.0f}" in card, name


BAD = [
    bad("latent", lambda: VAE(latent=0), "latent must be at least 1, got 0"),
    bad("width", lambda: Autoencoder(width=0), "width must be at least 1, got 0"),
    bad("hidden", lambda: VAE(hidden=-1), "hidden must be at least 1, got -1"),
    bad("no channel", lambda: small().encode(torch.zeros(3, 28, 28)), r"28, 28\], got \[3, 28"),
    bad("codes", lambda: small().decode(torch.zeros(2, 4)), r"codes \[B, 3\], got \[2, 4\]"),
    bad("one code", lambda: small(Autoencoder).decode(torch.zeros(3)), r"\[B, 3\], got \[3\]"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
