"""What a network returns, read as eps_hat: three ways to say the same."""

import pytest
import torch
from hypothesis import given
from strategies import Case, bad, cases, check_bad, normal
from torch import nn
from torch.testing import assert_close

from ddpm_lite.forward import q_sample
from ddpm_lite.loss import simple_loss
from ddpm_lite.networks import MLP, Denoiser, UNet, UNetConfig
from ddpm_lite.prediction import predict_x_0, to_v
from ddpm_lite.schedule import linear_schedule
from ddpm_lite.tasks import output_weight

SCHEDULE = linear_schedule(10, 0.01, 0.2)


class Says(nn.Module):
    """A network that returns this, and keeps what it was asked."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x_t, t, y=None):
        self.asked = x_t, t, y
        return self.answer


class Sine(nn.Module):
    def forward(self, x_t, t, y=None):
        return (2 * x_t).sin()


@given(cases())
def test_the_truth_in_each_form_is_eps(case: Case):
    """A network that knew x_0, eps or v would be read as the eps that made x_t."""
    schedule, t, x_0, eps = case.schedule, case.t, case.x_0, case.eps
    x_t = q_sample(schedule, x_0, t, eps)
    for output, truth in {"x_0": x_0, "eps": eps, "v": to_v(schedule, x_0, t, eps)}.items():
        eps_hat = Denoiser(Says(truth), schedule, output)(x_t, t)
        assert_close(eps_hat, eps, rtol=1e-6, atol=1e-6)


@given(cases())
def test_what_it_said_comes_back(case: Case):
    """Turned back by the formula of its form, eps_hat is the network's own answer."""
    schedule, t, x_t, said = case.schedule, case.t, case.x_t, case.z
    for output in ("x_0", "eps", "v"):
        eps_hat = Denoiser(Says(said), schedule, output)(x_t, t)
        x_0_hat = predict_x_0(schedule, x_t, t, eps_hat)
        forms = {"x_0": x_0_hat, "eps": eps_hat, "v": to_v(schedule, x_0_hat, t, eps_hat)}
        assert_close(forms[output], said, rtol=1e-6, atol=1e-6)


@given(cases())
def test_output_weight_makes_the_loss_that_of_what_is_said(case: Case):
    """For x_0 and eps their own squared error; for v the mean, in logarithms, of eps's and v's."""
    schedule, t, x_0, eps = case.schedule, case.t, case.x_0, case.eps
    truths = {"x_0": x_0, "eps": eps, "v": to_v(schedule, x_0, t, eps)}
    for output, truth in truths.items():
        model = Denoiser(Says(truth + case.z), schedule, output)
        weight = output_weight(schedule, output)
        if output == "v":  # the error of v is 1 / alpha_bar that of eps
            weight = weight**2
        assert weight.shape == schedule.beta.shape
        loss = simple_loss(model, schedule, x_0, t, eps, weight)
        assert_close(loss, case.z.square().mean(), rtol=1e-6, atol=1e-6)


def test_the_network_is_asked_as_the_model_is():
    net, x_t, t, y = Says(normal(3)), normal(3), torch.tensor([1, 5, 10]), torch.arange(3)
    Denoiser(net, SCHEDULE, "v")(x_t, t, y=y)
    assert net.asked[0] is x_t and net.asked[1] is t and net.asked[2] is y


def test_a_model_takes_real_times_and_answers_at_the_whole_ones_alike():
    net = UNet(UNetConfig(size=4, patch=1, width=8, multipliers=(1,), blocks=1, embedding=8))
    x, model = normal(2, 1, 4, 4).float(), Denoiser(net, linear_schedule(), "v").eval()
    with torch.no_grad():
        whole = model(x, torch.tensor([400, 7]))
        assert torch.equal(model(x, torch.tensor([400.0, 7.0])), whole)
        assert model(x, torch.tensor([400.5, 0.25])).isfinite().all()


@pytest.mark.parametrize("output", ["x_0", "eps", "v"])
@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_network_that_hides_its_slope_is_named_where_it_is_asked_for(output, off):
    """x_t has its own part in eps_hat: a divergence would look complete, and be wrong by nats."""
    net = Sine()
    model, x_t, t = Denoiser(net, SCHEDULE, output), normal(3).requires_grad_(), torch.arange(1, 4)
    seen = torch.autograd.grad(model(x_t, t).sum(), x_t)[0]
    step = 1e-6
    with torch.no_grad():
        slope = (model(x_t + step, t) - model(x_t - step, t)) / (2 * step)
    assert_close(seen, slope, rtol=1e-6, atol=1e-6)
    net.forward = off()(net.forward)
    with pytest.raises(ValueError, match="must be differentiable"):
        model(x_t, t)
    assert model(x_t.detach(), t).shape == (3,)
    with torch.no_grad():
        assert model(x_t, t).shape == (3,)


def test_a_network_of_no_slope_is_a_model():
    """As `Says`: frozen, it returns the same whatever x_t; eps_hat moves with x_t all the same."""
    x_t, t = normal(3).requires_grad_(), torch.arange(1, 4)
    model = Denoiser(Says(normal(3, seed=1)), SCHEDULE, "v")
    (slope,) = torch.autograd.grad(model(x_t, t).sum(), x_t)
    assert_close(slope, (1 - SCHEDULE.alpha_bar[t]).sqrt(), rtol=1e-12, atol=1e-12)


def test_its_weights_are_the_networks():
    model = Denoiser(MLP(T=10), SCHEDULE)
    assert model.output == "eps"
    assert set(model.state_dict()) == {f"net.{name}" for name in model.net.state_dict()}


@pytest.mark.parametrize("output", ["x_0", "eps", "v"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_answer_that_is_not_finite_is_named(output, value):
    model = Denoiser(Says(torch.tensor([0.0, value])), SCHEDULE, output)
    with pytest.raises(FloatingPointError, match="the network's output is not finite"):
        model(normal(2), torch.tensor([1, 10]))


X, T3 = normal(3), torch.tensor([1, 5, 10])
BAD = [
    bad(
        "shape", lambda: Denoiser(Says(X[:1]), SCHEDULE, "v")(X, T3), "v must have the shape of x_t"
    ),
    bad("t 0", lambda: Denoiser(Says(X), SCHEDULE, "x_0")(X, T3 - 1), "t must lie in .*clean data"),
    bad("output", lambda: Denoiser(MLP(), SCHEDULE, "score"), "one of x_0, eps, v, got 'score'"),
    bad("weight", lambda: output_weight(SCHEDULE, "score"), "one of x_0, eps, v, got 'score'"),
    bad("none", lambda: Denoiser(MLP(), SCHEDULE, None), "one of x_0, eps, v, got None"),
]


@pytest.mark.parametrize(("call", "message", "error"), BAD)
def test_bad_input_says_what_to_do(call, message, error):
    check_bad(call, message, error)
