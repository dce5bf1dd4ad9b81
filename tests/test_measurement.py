"""Posteriors of a linear measurement: the exact one of a mixture, and how far others are off."""

import pytest
import torch
from strategies import generator, normal, numbers
from torch.testing import assert_close

from ddpm_lite.guidance import guided
from ddpm_lite.measurement import inpaint, measured
from ddpm_lite.mixture import GaussianMixture, two_modes
from ddpm_lite.prediction import clipped
from ddpm_lite.sampling import last, sample
from ddpm_lite.schedule import linear_schedule

SCHEDULE = linear_schedule(T=100, beta_1=1e-3, beta_T=0.2)
MIXTURE = GaussianMixture([0.5, 0.3, 0.2], [[-2.0, -1.0], [1.0, 1.5], [2.0, -2.0]], [0.5, 0.4, 0.6])
MODEL = MIXTURE.denoiser(SCHEDULE)
A, Y, STD = numbers(1.0, 0.5)[None], numbers(0.9), 0.3
FIRST = numbers(1.0, 0.0)[None]  # the first coordinate
X, T = 2 * normal(40, 2), torch.arange(40) * 2 + 1


def share(x: torch.Tensor, k: int = 2) -> float:
    """Of the points that are nearest to the k-th bell's centre."""
    return float(((x[:, None] - MIXTURE.means).norm(dim=2).argmin(1) == k).double().mean())


# ---- the exact posterior -------------------------------------------------------------------------


def test_the_likelihood_of_a_measurement_is_the_mixtures_own_at_any_time():
    """p(y | x_t) p(x_t) = p(y, x_t), which is one mixture of bells in three dimensions."""
    for t in (1, 40, 100):
        alpha_bar, now = SCHEDULE.alpha_bar[t], torch.full((40,), t)
        joint = torch.zeros(40, dtype=torch.float64)
        for w, m, s in zip(MIXTURE.weights, MIXTURE.means, MIXTURE.stds, strict=True):
            up = torch.cat([alpha_bar.sqrt() * torch.eye(2, dtype=torch.float64), A])
            noise = torch.diag(torch.cat([(1 - alpha_bar).expand(2), numbers(STD**2)]))
            bell = torch.distributions.MultivariateNormal(up @ m, s**2 * up @ up.T + noise)
            joint += w * bell.log_prob(torch.cat([X, Y.expand(40, 1)], 1)).exp()
        found = MIXTURE.log_likelihood(SCHEDULE, X, now, A, Y, STD)
        assert_close(found + MIXTURE.diffused(SCHEDULE, t).log_prob(X), joint.log())


def test_exact_draws_have_the_moments_of_the_posterior_on_a_grid():
    side = torch.linspace(-5, 5, 401, dtype=torch.float64)
    points = torch.cartesian_prod(side, side)
    log_p = MIXTURE.log_prob(points) - 0.5 * ((points @ A.T)[:, 0] - Y) ** 2 / 0.8**2
    p = log_p.softmax(0)
    drawn = MIXTURE.sample_given(A, Y, 0.8, 20_000, generator())
    mean = p @ points
    assert_close(drawn.mean(0), mean, atol=0.04, rtol=0)
    cov = (points - mean).T @ (p[:, None] * (points - mean))
    assert_close(drawn.T.cov(), cov, atol=0.06, rtol=0)


def test_on_the_line_a_draw_of_the_posterior_is_one_number():
    drawn = two_modes().sample_given(numbers(1)[None], numbers(2.0), 0.5, 20_000, generator())
    assert drawn.shape == (20_000,)
    assert_close(drawn.mean(), numbers(2.0)[0], atol=0.02, rtol=0)
    assert_close(drawn.var(), numbers(0.125)[0], atol=0.01, rtol=0)


def test_the_exact_guided_sampler_reaches_the_posterior():
    """With 4,000 draws of either the shares of a bell have a standard error of 0.003."""

    def log_likelihood(x_t, t):
        return MIXTURE.log_likelihood(SCHEDULE, x_t, t, FIRST, numbers(0.2), STD)

    model = guided(MODEL, SCHEDULE, log_likelihood)
    options = {"generator": generator(3), "dtype": torch.float64}
    drawn = last(sample(model, SCHEDULE, (4000, 2), **options))
    truth = MIXTURE.sample_given(FIRST, numbers(0.2), STD, 4000, generator(1))
    apart = (drawn.sort(0).values - truth.sort(0).values).abs().mean(0)
    assert (apart < 0.04).all(), "W1 of each coordinate"
    assert abs(share(drawn) - share(truth)) < 0.015


# ---- through x_0_hat -----------------------------------------------------------------------------


def test_for_one_bell_guidance_through_x_0_hat_is_exact():
    rows, y = numbers(1, 2, -1, 0.5).reshape(2, 2), numbers(0.4, -1)
    for std, scale in ((0.5, 1.0), (1.0, 0.4), (2.0, 1.0)):
        bell = GaussianMixture([1.0], [[0.3, -0.7]], [std])
        model = bell.denoiser(SCHEDULE)

        def log_likelihood(x, t, bell=bell):
            return bell.log_likelihood(SCHEDULE, x, t, rows, y, STD)

        exact = guided(model, SCHEDULE, log_likelihood, scale)
        found = measured(model, SCHEDULE, rows, y, STD, data_std=std, scale=scale)
        assert_close(found(X, T), exact(X, T), atol=1e-9, rtol=1e-9)


def test_without_spread_it_is_the_gradient_of_the_residuals_square():
    x = X.clone().requires_grad_()
    residual = Y - MIXTURE.x_0(SCHEDULE, x, T) @ A.T
    (gradient,) = torch.autograd.grad(-0.5 * (residual**2).sum() / STD**2, x)
    noise = (1 - SCHEDULE.alpha_bar[T]).sqrt()[:, None]
    found = measured(MODEL, SCHEDULE, A, Y, STD, data_std=0)(X, T)
    assert_close(found, MODEL(X, T) - noise * gradient)


def test_each_sample_has_its_own_measurement():
    y = normal(40, 1)
    found = measured(MODEL, SCHEDULE, A, y, STD)(X, T)
    one = measured(MODEL, SCHEDULE, A, y[7], STD)(X[7:8], T[7:8])
    assert_close(found[7:8], one)


# ---- replacement ---------------------------------------------------------------------------------

SEEN = numbers(0.2, 0.0).expand(2000, 2)
HIDDEN = torch.tensor([False, True])


def replaced(resample: int = 1, steps: int = 100) -> torch.Tensor:
    walk = inpaint(
        MODEL, SCHEDULE, SEEN, HIDDEN, steps=steps, generator=generator(3), resample=resample
    )
    return last(walk)


def test_what_is_not_hidden_ends_as_it_was():
    drawn = replaced(steps=5)
    assert_close(drawn[:, 0], SEEN[:, 0], atol=0, rtol=0)
    assert drawn[:, 1].std() > 0.3


def test_at_each_time_what_is_not_hidden_has_the_law_of_x_t():
    x_0 = numbers(3.0, 0.0).expand(2000, 2)
    for s, x_s, _ in inpaint(MODEL, SCHEDULE, x_0, HIDDEN, steps=4, generator=generator(1)):
        alpha_bar = SCHEDULE.alpha_bar[s]
        assert_close(x_s[:, 0].mean(), 3 * alpha_bar.sqrt(), atol=0.08, rtol=0)
        assert_close(x_s[:, 0].std(), (1 - alpha_bar).sqrt(), atol=0.06, rtol=0)


def test_replacement_is_biased_and_less_so_with_resampling():
    """The third bell has 0.034 of the posterior, as exact draws do; with a standard error of 0.01
    replacement gives it 0.46, and 0.39 where each step is taken three times."""
    truth = share(MIXTURE.sample_given(FIRST, numbers(0.2), 1e-3, 4000, generator(1)))
    assert abs(truth - 0.034) < 0.01
    once, thrice = share(replaced()), share(replaced(3))
    assert abs(once - 0.46) < 0.04 and abs(thrice - 0.39) < 0.04
    assert once > thrice + 0.02


def test_replacement_of_independent_coordinates_is_exact():
    """One bell: the hidden coordinate does not depend on the seen one, so nothing is to agree."""
    bell = GaussianMixture([1.0], [[0.0, 1.0]], [0.7])
    walk = inpaint(
        bell.denoiser(SCHEDULE), SCHEDULE, SEEN, HIDDEN, generator=generator(0), resample=2
    )
    hidden = last(walk)[:, 1]
    assert_close(hidden.mean(), numbers(1)[0], atol=0.06, rtol=0)
    assert_close(hidden.std(), numbers(0.7)[0], atol=0.05, rtol=0)


def test_where_all_is_hidden_it_is_plain_sampling_in_law():
    data = two_modes(0.3)
    x_0, hidden = torch.zeros(2000, dtype=torch.float64), torch.ones(2000, dtype=torch.bool)
    model = data.denoiser(SCHEDULE)
    drawn = last(inpaint(model, SCHEDULE, x_0, hidden, generator=generator(), resample=2))
    assert_close((drawn < 0).double().mean(), numbers(0.3)[0], atol=0.04, rtol=0)


# ---- wrong arguments -----------------------------------------------------------------------------


def measure(**changes):
    given = {"A": A, "y": Y, "std": STD} | changes
    return measured(MODEL, SCHEDULE, **given)(X, T)


def paint(**changes):
    given = {"x_0": SEEN, "hidden": HIDDEN} | changes
    return inpaint(MODEL, SCHEDULE, **given)


WRONG = {
    "vector": (lambda: measure(A=A[0]), ValueError, r"A must be .* matrix \[M, D\], got \[2\]"),
    "columns": (lambda: measure(A=A[:, :1]), ValueError, "A must have a column for each of the 2"),
    "y": (lambda: measure(y=numbers(1, 2)), ValueError, r"y must be \[B, M\] or \[M\] with M = 1"),
    "rows of y": (lambda: measure(y=normal(3, 1)), ValueError, "y must have an entry .* 40, got 3"),
    "std": (lambda: measure(std=-1.0), ValueError, "std must be at least 0 and finite, got -1"),
    "data_std": (lambda: measure(data_std=float("inf")), ValueError, "data_std must be at least 0"),
    "certain": (lambda: measure(std=0.0, data_std=0.0), ValueError, "std must be positive where"),
    "twice": (
        lambda: measure(A=A.expand(2, 2), y=numbers(1, 1), std=0.0),
        ValueError,
        "rows of A depend on one another",
    ),
    "scale": (lambda: measure(scale="1"), TypeError, "scale must be a number"),
    "no slope": (
        lambda: measured(torch.no_grad()(MODEL), SCHEDULE, A, Y, STD)(X, T),
        ValueError,
        "must be differentiable",
    ),
    "mask": (lambda: paint(hidden=HIDDEN.double()), TypeError, "hidden must be a bool tensor, Tr"),
    "mask shape": (
        lambda: paint(hidden=torch.ones(3, dtype=torch.bool)),
        ValueError,
        r"hidden must be \[2000, 2\] as x_0, or \[2\] for all of them, got \[3\]",
    ),
    "resample": (lambda: paint(resample=0), ValueError, "resample must be .* at least 1, got 0"),
    "known": (lambda: paint(x_0=SEEN / 0), ValueError, "x_0 must be finite"),
    "times": (lambda: paint(steps=[9, 9, 0]), ValueError, "times must fall at each step"),
    "mixture": (
        lambda: MIXTURE.sample_given(A.T, Y, STD, 3),
        ValueError,
        r"A must be a matrix \[M, 2\], got \[2, 1\]",
    ),
    "mixture's y": (
        lambda: MIXTURE.sample_given(A, X, STD, 3),
        ValueError,
        r"y must be \[M\] = \[1\], the rows of A, got \[40, 2\]",
    ),
    "mixture's std": (lambda: MIXTURE.sample_given(A, Y, 0.0, 3), ValueError, "std must be posi"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()


def test_a_guided_model_can_be_clipped():
    found = clipped(measured(MODEL, SCHEDULE, A, Y, STD), SCHEDULE, 2.0)(X, T)
    assert found.shape == X.shape and not found.requires_grad
