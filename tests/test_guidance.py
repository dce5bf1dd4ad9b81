"""Guidance by labels and by classifiers, where all is exact: classes of Gaussians on the line."""

from functools import partial

import pytest
import torch
from strategies import normal, numbers
from torch.testing import assert_close

from ddpm_lite.density import grid, sampled_density
from ddpm_lite.guidance import classifier_free, classifier_guided, guided, within
from ddpm_lite.mixture import Classes, GaussianMixture
from ddpm_lite.networks import NoisyClassifier
from ddpm_lite.prediction import predict_eps, score
from ddpm_lite.schedule import linear_schedule

SCHEDULE = linear_schedule(T=100, beta_1=1e-3, beta_T=0.2)
APART = Classes(
    [
        GaussianMixture([0.5, 0.5], [-3.0, -1.0], [0.4, 0.4]),
        GaussianMixture([0.5, 0.5], [1.0, 3.0], [0.4, 0.4]),
    ]
)
MIXED = Classes(
    [
        GaussianMixture([0.6, 0.4], [-2.0, 0.5], [0.5, 0.4]),
        GaussianMixture([0.3, 0.7], [-0.5, 2.0], [0.7, 0.5]),
    ],
    prior=[0.3, 0.7],
)
MODEL, CLASSIFIER = MIXED.denoiser(SCHEDULE), MIXED.classifier(SCHEDULE)
X, Y = 3 * normal(64), torch.arange(64) % 2
T = torch.arange(64) % 100 + 1


def whole_batch(y: int, x: torch.Tensor = X) -> torch.Tensor:
    return torch.full((len(x),), y)


# ---- the classes themselves ----------------------------------------------------------------------


def test_bayes_rule_for_scores_holds_at_every_noise_level():
    """grad log p(y | x_t) is the score given y less the score: by autograd, of the classifier."""
    x = X.clone().requires_grad_()
    log_p = CLASSIFIER(x, T).log_softmax(1)[torch.arange(64), Y]
    (gradient,) = torch.autograd.grad(log_p.sum(), x)
    given, none = (score(SCHEDULE, eps, T) for eps in (MODEL(X, T, Y), MODEL(X, T)))
    assert_close(gradient, given - none, atol=1e-9, rtol=1e-9)


def test_two_gaussians_a_class_are_as_the_formula_says():
    """E[eps | x_t, y] and p(y | x_t), written out from the four bells."""
    t = torch.full((64,), 30)
    alpha_bar = SCHEDULE.alpha_bar[30]
    weights = numbers(0.18, 0.12, 0.21, 0.49)
    means, stds = numbers(-2, 0.5, -0.5, 2), numbers(0.5, 0.4, 0.7, 0.5)
    variance = alpha_bar * stds**2 + 1 - alpha_bar
    gap = X[:, None] - alpha_bar.sqrt() * means
    bells = weights * variance**-0.5 * (-0.5 * gap**2 / variance).exp()
    p = torch.stack([bells[:, :2].sum(1), bells[:, 2:].sum(1)], 1)
    slopes = bells * -gap / variance
    scores = torch.stack([slopes[:, :2].sum(1), slopes[:, 2:].sum(1)], 1) / p
    assert_close(CLASSIFIER(X, t).softmax(1), p / p.sum(1, keepdim=True))
    for y in (0, 1):
        assert_close(score(SCHEDULE, MODEL(X, t, whole_batch(y)), t), scores[:, y])
    none = slopes.sum(1) / bells.sum(1)
    for scale in (0.0, 0.5, 1.0, 3.0):
        expected = none + scale * (scores[:, 1] - none)
        found = classifier_free(MODEL, whole_batch(1), scale)(X, t)
        assert_close(score(SCHEDULE, found, t), expected)


# ---- classifier-free -----------------------------------------------------------------------------


def test_scale_1_is_the_conditional_model_and_scale_0_the_one_without_labels():
    for scale in (1, 1.0, torch.ones(64, dtype=torch.float64)):
        assert_close(classifier_free(MODEL, Y, scale)(X, T), MODEL(X, T, Y), atol=1e-12, rtol=0)
    for scale in (0, 0.0, torch.zeros(64, dtype=torch.float64)):
        assert_close(classifier_free(MODEL, Y, scale)(X, T), MODEL(X, T), atol=1e-12, rtol=0)


def test_the_other_convention_counts_from_the_conditional_model():
    w = 1.7
    theirs = (1 + w) * MODEL(X, T, Y) - w * MODEL(X, T)
    assert_close(classifier_free(MODEL, Y, w + 1)(X, T), theirs, atol=1e-12, rtol=1e-12)


def test_each_sample_has_its_own_label_and_scale():
    scales = torch.linspace(-1, 4, 64, dtype=torch.float64)
    found = classifier_free(MODEL, Y, scales)(X, T)
    for i in (0, 13, 63):
        one = classifier_free(MODEL, Y[i : i + 1], float(scales[i]))(X[i : i + 1], T[i : i + 1])
        assert_close(found[i : i + 1], one, atol=1e-12, rtol=1e-12)


def test_scales_0_and_1_ask_the_network_once():
    asked = []

    def model(x_t, t, y=None):
        asked.append(y is not None)
        return MODEL(x_t, t, y)

    for scale, expected in ((0, [False]), (1, [True]), (2, [False, True])):
        asked.clear()
        classifier_free(model, Y, scale)(X, T)
        assert asked == expected


# ---- by a classifier -----------------------------------------------------------------------------


def test_the_true_classifier_guides_as_the_labels_do():
    for scale in (0.0, 1.0, 2.5):
        by_labels = classifier_free(MODEL, Y, scale)(X, T)
        by_classifier = classifier_guided(MODEL, SCHEDULE, CLASSIFIER, Y, scale)(X, T)
        assert_close(by_classifier, by_labels, atol=1e-9, rtol=1e-9)


def test_a_classifier_guides_within_no_grad_and_inference_mode():
    expected = classifier_guided(MODEL, SCHEDULE, CLASSIFIER, Y, 2.0)(X, T)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = classifier_guided(MODEL, SCHEDULE, CLASSIFIER, Y, 2.0)(X.clone(), T)
        assert not found.requires_grad
        assert_close(found, expected)


def test_the_guidance_of_a_constant_is_none():
    def constant(x_t, t):
        return torch.zeros(len(x_t), dtype=x_t.dtype)

    assert_close(guided(MODEL, SCHEDULE, constant, 3.0)(X, T), MODEL(X, T), atol=0, rtol=0)


# ---- the guided law ------------------------------------------------------------------------------


def laws(classes: Classes, scale: float) -> tuple[float, float, float]:
    """W1 of the guided law (y = 1) to p(x) p(y | x)^scale / Z; and the means of both."""
    x = grid(-12, 12, 1024)
    h, log_p = x[1] - x[0], classes.whole.log_prob(x)
    log_y = classes.prior[1].log() + classes.classes[1].log_prob(x) - log_p
    tilted = (log_p + scale * log_y).softmax(0) / h
    model = classifier_free(classes.denoiser(SCHEDULE), whole_batch(1, x), scale)
    law = sampled_density(model, SCHEDULE, x)
    far = ((law - tilted).cumsum(0) * h).abs().sum() * h
    return float(far), float((law * x).sum() * h), float((tilted * x).sum() * h)


def test_the_guided_law_is_the_tilted_one_at_scales_0_and_1_alone():
    """By grid, with no sampling noise: 100 steps are 0.02 off where the two agree."""
    found = {scale: laws(APART, scale) for scale in (0, 1, 0.5, 2)}
    assert found[0][0] < 0.03 and found[1][0] < 0.03
    assert_close(numbers(found[0.5][0], found[2][0]), numbers(0.434, 0.365), atol=0.03, rtol=0)
    # Of two classes that hardly meet, the tilt changes nothing, the guidance all: it pushes on.
    _, law, tilted = found[2]
    assert_close(numbers(law, tilted), numbers(2.38, 2.01), atol=0.04, rtol=0)


# ---- in an interval ------------------------------------------------------------------------------


def test_guidance_in_an_interval_is_guided_there_and_plain_elsewhere():
    strong, plain = classifier_free(MODEL, Y, 3.0), classifier_free(MODEL, Y)
    found = within(strong, plain, 20, 60)(X, T)
    inside = (T >= 20) & (T <= 60)
    assert 0 < inside.sum() < 64
    assert_close(found[inside], strong(X, T)[inside], atol=0, rtol=0)
    assert_close(found[~inside], plain(X, T)[~inside], atol=0, rtol=0)


def test_the_other_model_is_not_asked_where_all_are_on_one_side():
    def never(x_t, t):
        raise AssertionError("asked")

    for t, models in ((20, (MODEL, never)), (60, (MODEL, never)), (61, (never, MODEL))):
        now = torch.full((64,), t)
        assert_close(within(*models, 20, 60)(X, now), MODEL(X, now))


# ---- wrong arguments -----------------------------------------------------------------------------

WRONG = {
    "no tensor": (lambda: classifier_free(MODEL, 3), TypeError, r"y must be int64 \[B\], got int"),
    "real labels": (lambda: classifier_free(MODEL, X), TypeError, r"y must be int64 .*float64"),
    "negative": (lambda: classifier_free(MODEL, Y - 1), ValueError, "y must not be negative, .*-1"),
    "few": (lambda: classifier_free(MODEL, Y[:3])(X, T), ValueError, "y must have .*64, got 3"),
    "text": (lambda: classifier_free(MODEL, Y, "2"), TypeError, "scale must be a number.*'2'"),
    "truth": (lambda: classifier_free(MODEL, Y, True), TypeError, "scale must be a number"),
    "nan": (lambda: classifier_free(MODEL, Y, float("nan")), ValueError, "scale must be finite"),
    "infinite": (
        lambda: guided(MODEL, SCHEDULE, CLASSIFIER, numbers(1, float("inf"))),
        ValueError,
        "scale must be finite",
    ),
    "scales": (
        lambda: classifier_free(MODEL, Y, numbers(1, 2))(X, T),
        ValueError,
        "scale must have an entry for each sample of the batch, 64, got 2",
    ),
    "class": (
        lambda: classifier_guided(MODEL, SCHEDULE, CLASSIFIER, Y + 1)(X, T),
        ValueError,
        r"y must lie in 0..1, got values from 1 to 2",
    ),
    "logits": (
        lambda: classifier_guided(MODEL, SCHEDULE, MODEL, Y)(X, T),
        ValueError,
        r"classifier must return logits \[B, C\] = \[64, C\], got \[64\]",
    ),
    "likelihood": (
        lambda: guided(MODEL, SCHEDULE, CLASSIFIER)(X, T),
        ValueError,
        r"log_likelihood must return one number a sample, \[B\], got \[64, 2\]",
    ),
    "no slope": (
        lambda: classifier_guided(MODEL, SCHEDULE, torch.no_grad()(CLASSIFIER), Y)(X, T),
        ValueError,
        "must be differentiable",
    ),
    "interval": (lambda: within(MODEL, MODEL, 5, 2), ValueError, "0 <= low <= high, got 5 and 2"),
    "shape": (
        lambda: classifier_free(lambda x, t, y=None: x[:3], Y, 2.0)(X, T),
        ValueError,
        "model must return eps_hat like x_t",
    ),
    "label of none": (
        lambda: MODEL(X, T, Y + 1),
        ValueError,
        r"y must lie in 0..1, got values from 1 to 2",
    ),
    "no class": (lambda: Classes([]), ValueError, "classes must be one mixture or more"),
    "prior": (
        lambda: Classes(MIXED.classes, [1.0, 0.0]),
        ValueError,
        r"prior must be \[2\], each positive, got \[1.0, 0.0\]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case):
    call, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        call()


# ---- the classifier of noisy images --------------------------------------------------------------


def test_a_noisy_classifier_is_told_the_time_and_has_a_slope():
    torch.manual_seed(0)
    model = NoisyClassifier(width=8, embedding=16).double()
    for block in (model.body[0], model.body[2]):
        torch.nn.init.normal_(block.conv_2.weight, std=0.1)
    x, t = normal(3, 1, 28, 28), torch.tensor([1, 500, 1000])
    logits = model(x, t)
    assert logits.shape == (3, 10) and not torch.allclose(logits, model(x, t.flip(0)))
    eps = predict_eps(linear_schedule(T=1000), x, t, x.clamp(-1, 1))
    guide = partial(classifier_guided, y=torch.tensor([3, 0, 9]), scale=2.0)
    found = guide(lambda x_t, t: eps, linear_schedule(T=1000), model)(x, t)
    assert (found - eps).abs().flatten(1).amax(1).min() > 0
    with pytest.raises(ValueError, match=r"x_t must be images \[B, 1, 28, 28\]"):
        model(x[..., :14], t)
    with pytest.raises(ValueError, match=r"t must be \[B\] = \[3\], got \[2\]"):
        model(x, t[:2])
    with pytest.raises(ValueError, match="classes must be at least 2, got 1"):
        NoisyClassifier(classes=1)
