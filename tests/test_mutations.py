"""The checks can fail: a changed coefficient in ddpm_lite is caught by the equation's own verify().

For each mutation a copy of the package with one changed line is loaded. Of the chapter's code, only
what a verify() call needs is run: its backward slice, found by names over the top-level statements.
Each slice must pass with the true package, and fail with the mutated one by naming the equation.
"""

import importlib
import sys

import pytest
from hypothesis import Phase, settings
from mutants import Mutation, code_for, failures, package, true_failure

MUTATIONS = [
    # schedule: the tables
    Mutation(
        "schedule",
        "return 1 - self.beta\n",
        "return (1 - self.beta) ** 2\n",
        "eq-forward-induction",
    ),
    Mutation(
        "schedule", "self.alpha.cumprod(0)", "self.alpha.sqrt().cumprod(0)", "eq-variance-recursion"
    ),
    Mutation(
        "schedule",
        "self.alpha_bar / (1 - self.alpha_bar)",
        "self.alpha_bar / (1 - self.alpha_bar) ** 2",
        "eq-steps-to-snr",
    ),
    Mutation(
        "schedule", "noise[:-1] / noise[1:] * self.beta[1:]", "self.beta[1:]", "eq-beta-tilde-snr"
    ),
    Mutation(
        "schedule",
        "return _from_steps(1 - alpha_bar[1:] / alpha_bar[:-1])",
        "return _from_steps(1 - (alpha_bar[1:] / alpha_bar[:-1]).sqrt())",
        "eq-respaced",
    ),
    # gaussian
    Mutation(
        "gaussian", "(2 * math.pi * var).log())", "(math.pi * var).log())", "eq-gaussian-flip"
    ),
    Mutation("gaussian", "ratio - 1 - ratio.log()", "ratio - 1 + ratio.log()", "eq-gaussian-kl"),
    Mutation(
        "gaussian",
        "(mean_p - mean_q) ** 2 / var_q",
        "(mean_p - mean_q).abs() / var_q",
        "eq-gaussian-kl",
    ),
    Mutation(
        "gaussian",
        "0.5 * (2 * math.pi * math.e * var).log()",
        "0.5 * (2 * math.pi * var).log()",
        "eq-entropy-start",
    ),
    Mutation(
        "gaussian",
        "precision = 1 / var_a + 1 / var_b",
        "precision = 1 / (var_a + var_b)",
        "eq-gaussian-product",
    ),
    Mutation(
        "gaussian",
        "(mean_a / var_a + mean_b / var_b)",
        "(mean_a / var_b + mean_b / var_a)",
        "eq-gaussian-product",
    ),
    Mutation("gaussian", "a * mean + b, a**2 * var", "a * mean + b, a * var", "eq-gaussian-affine"),
    Mutation(
        "gaussian",
        "M @ self.cov @ M.mT)",
        "M @ self.cov @ self.cov @ M.mT)",
        "eq-gaussian-affine-vectors",
    ),
    Mutation(
        "gaussian",
        "_times(L[..., K:, :K], eps)",
        "2 * _times(L[..., K:, :K], eps)",
        "eq-gaussian-conditional",
    ),
    Mutation(
        "gaussian",
        "square - 1 - square.log()",
        "square - 1 + square.log()",
        "eq-gaussian-kl-vectors",
    ),
    # forward: one step, and the jump
    Mutation(
        "forward",
        "at(schedule.alpha.sqrt(), t, x_prev) * x_prev",
        "at(schedule.alpha, t, x_prev) * x_prev",
        "eq-forward-closed",
    ),
    Mutation(
        "forward",
        "at(schedule.beta.sqrt(), t, x_prev) * eps",
        "at(schedule.beta, t, x_prev) * eps",
        "eq-forward-closed",
    ),
    Mutation(
        "forward", "at(schedule.alpha.sqrt(), t, x_prev) * x_prev", "x_prev", "eq-step-solved"
    ),
    Mutation(
        "forward",
        "at(schedule.alpha_bar.sqrt(), t, x_0) * x_0",
        "at(schedule.alpha_bar, t, x_0) * x_0",
        "eq-forward-closed",
    ),
    Mutation(
        "forward",
        "at((1 - schedule.alpha_bar).sqrt(), t, x_0)",
        "at(1 - schedule.alpha_bar, t, x_0)",
        "eq-forward-closed",
    ),
    # posterior
    Mutation(
        "posterior",
        "alpha_bar_s.sqrt() * beta / noise_t",
        "alpha_bar_s * beta / noise_t",
        "eq-mu-tilde",
    ),
    Mutation(
        "posterior", "(1 - beta).sqrt() * noise_s / noise_t", "(1 - beta).sqrt()", "eq-mu-tilde"
    ),
    Mutation("posterior", "(noise_s / noise_t * beta).to", "beta.to", "eq-beta-tilde"),
    Mutation(
        "posterior",
        "return 1 - alpha_bar_t / alpha_bar_s,",
        "return 1 - (alpha_bar_t / alpha_bar_s).sqrt(),",
        "eq-weights-sum",
    ),
    # oracle: the mixture's exact answers, and densities on a grid
    Mutation(
        "oracle",
        "(alpha_bar * self.stds**2 + 1 - alpha_bar).sqrt()",
        "(alpha_bar * self.stds + 1 - alpha_bar).sqrt()",
        "eq-mixture-marginal",
    ),
    Mutation(
        "oracle",
        "alpha_bar.sqrt() * self.means, stds)",
        "alpha_bar * self.means, stds)",
        "eq-mixture-marginal",
    ),
    Mutation(
        "oracle",
        "variance = alpha_bar * self.stds.to(x.device) ** 2 + 1 - alpha_bar",
        "variance = self.stds.to(x.device) ** 2 + 1 - alpha_bar",
        "eq-reverse-moments",
    ),
    Mutation(
        "oracle",
        "alpha_bar.sqrt() * self.stds.to(x.device) ** 2 / variance",
        "alpha_bar * self.stds.to(x.device) ** 2 / variance",
        "eq-reverse-moments",
    ),
    Mutation(
        "oracle",
        "(x_t - (1 - beta).sqrt() * x) ** 2 / beta",
        "(x_t - (1 - beta) * x) ** 2 / beta",
        "eq-posterior-average",
    ),
    Mutation("oracle", "-f * (f - 1) * (f - 2) / 6,", "f * (f - 1) * (f - 2) / 6,", "eq-push"),
    Mutation(
        "oracle",
        "torch.exp(-0.5 * (std * frequency) ** 2)",
        "torch.exp(-0.5 * std * frequency**2)",
        "eq-push",
    ),
    Mutation("oracle", "+ 1 - alpha_bar\n        signal", "+ 1\n        signal", "eq-exact-x0"),
    Mutation(
        "oracle", "given_k = means + gain *", "given_k = signal * means + gain *", "eq-exact-x0"
    ),
    Mutation(
        "oracle",
        "predict_eps(schedule, x, t, x_0).to",
        "predict_eps(schedule, x, t, -x_0).to",
        "eq-exact-eps",
    ),
    # prediction: one thing in three languages
    Mutation(
        "prediction",
        "(x_t - noise * eps) / signal",
        "(x_t - noise * eps) / signal**2",
        "eq-x0-from-eps",
    ),
    Mutation(
        "prediction",
        "(x_t - noise * eps) / signal",
        "(x_t + noise * eps) / signal",
        "eq-x0-from-eps",
    ),
    Mutation(
        "prediction",
        "(x_t - signal * x_0) / noise",
        "(x_t - signal * x_0) / noise**2",
        "eq-eps-from-x0",
    ),
    Mutation(
        "prediction",
        "return signal * eps - noise * x_0",
        "return signal * eps + noise * x_0",
        "eq-v-rotation",
    ),
    Mutation(
        "prediction",
        "return signal * x_t - noise * v,",
        "return signal * x_t + noise * v,",
        "eq-error-factors",
    ),
    Mutation(
        "prediction", "noise * x_t + signal * v\n", "noise * x_t - signal * v\n", "eq-error-factors"
    ),
    Mutation("prediction", "return -eps / noise", "return eps / noise", "eq-score-eps"),
    Mutation("prediction", "return -eps / noise", "return -eps / noise**2", "eq-score-eps"),
    Mutation(
        "schedule",
        "return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt()",
        "return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar)",
        "eq-v-rotation",
    ),
    # objective
    Mutation(
        "objective",
        "error = (eps_hat - eps) ** 2",
        "error = (eps_hat - eps).abs()",
        "eq-simple-loss",
    ),
    Mutation(
        "objective",
        "beta**2 / (2 * variance[2:] * alpha * noise)",
        "beta**2 / (variance[2:] * alpha * noise)",
        "eq-eps-weight",
    ),
    Mutation(
        "objective",
        "beta**2 / (2 * variance[2:] * alpha * noise)",
        "beta**2 / (2 * variance[2:] * noise)",
        "eq-eps-weight",
    ),
    Mutation(
        "objective",
        "beta**2 / (2 * variance[2:] * alpha * noise)",
        "beta / (2 * variance[2:] * alpha * noise)",
        "eq-eps-weight",
    ),
    Mutation(
        "objective", "[2:] * schedule.snr[2:]", "[2:] * schedule.snr[2:].sqrt()", "eq-x0-weight"
    ),
    Mutation(
        "objective",
        "mu_tilde, beta_tilde = posterior(schedule, x, x_t, t)",
        "mu_tilde, beta_tilde = posterior(schedule, x_t, x_t, t)",
        "eq-bound-terms",
    ),
    Mutation(
        "objective",
        "torch.where(k > 0, (k - 0.5) / 127.5 - 1, -math.inf)",
        "torch.where(k > 0, (k - 1) / 127.5 - 1, -math.inf)",
        "eq-discretised-decoder",
    ),
    Mutation("objective", "nats / (dims * math.log(2))", "nats / dims", "eq-bits-per-dim"),
    # training
    Mutation(
        "training",
        "return 0.5 * (1 + math.cos(math.pi * done))",
        "return math.cos(0.5 * math.pi * done)",
        "eq-learning-rate",
    ),
    Mutation(
        "training", "(1 + n.double()) / (10 + n)", "(1 + n.double()) / (2 + n)", "eq-ema-warmup"
    ),
    Mutation(
        "training",
        "average + (1 - kept) * (new - average)",
        "average + kept * (new - average)",
        "eq-ema",
    ),
    # sampling
    Mutation(
        "sampling",
        "mean, _ = posterior(schedule, x_0_hat, x_t, t, s)",
        "mean, _ = posterior(schedule, x_0_hat, x_0_hat, t, s)",
        "eq-mean-error",
    ),
    Mutation(
        "sampling",
        "torch.where(noisy, sigma, 0.0) * z",
        "torch.where(noisy, sigma**2, 0.0) * z",
        "eq-ddpm-step",
    ),
    Mutation(
        "sampling",
        "return step_variances(schedule, t, s, like)[0]",
        "return step_variances(schedule, t, s, like)[0] / 2",
        "eq-ddpm-step",
    ),
    Mutation(
        "oracle", "float(noisy[0] - mean[0])", "float(noisy[0] - mean[0]) / 2", "eq-ddpm-step"
    ),
    # ways back from noise
    Mutation(
        "sampling",
        "var = eta**2 * beta_tilde_variance",
        "var = eta * beta_variance",
        "eq-ddim-posterior",
    ),
    Mutation(
        "sampling",
        "return noise_s / noise_t * beta\n",
        "return beta\n",
        "eq-ddim-posterior",
    ),
    Mutation(
        "sampling",
        "direction = (1 - alpha_bar - var)",
        "direction = (1 - alpha_bar)",
        "eq-ddim-posterior",
    ),
    Mutation(
        "sampling",
        "mean = alpha_bar.sqrt().to(x_t.dtype) * x_0_hat",
        "mean = alpha_bar.to(x_t.dtype) * x_0_hat",
        "eq-noise-free-half",
    ),
    Mutation(
        "sampling",
        "signal_t * (x_s - noise_s * eps_hat) / signal_s + noise_t",
        "signal_t * (x_s - noise_s * eps_hat) + noise_t",
        "eq-invert-step",
    ),
    Mutation(
        "sampling",
        "((1 - u) * angle).sin() * a",
        "(1 - u) * angle.sin() * a",
        "eq-slerp",
    ),
    Mutation(
        "score",
        "return slope + 0.5 * _sum(value**2)\n\n\ndef sliced",
        "return slope + _sum(value**2)\n\n\ndef sliced",
        "eq-score-loss-implicit",
    ),
    Mutation(
        "score",
        "v * _gradient((v * value)",
        "v * _gradient(value",
        "eq-sliced-trace",
    ),
    Mutation(
        "score",
        "total = total + _gradient(flat[:, d], x)",
        "total = total - _gradient(flat[:, d], x)",
        "eq-score-loss-implicit",
    ),
    Mutation(
        "score",
        "return 0.5 * _sum((value - target) ** 2)",
        "return _sum((value - target) ** 2)",
        "eq-score-loss-implicit",
    ),
    Mutation(
        "score",
        "(2 * delta).sqrt() * z",
        "delta.sqrt() * z",
        "eq-langevin-sign",
    ),
    Mutation(
        "sde",
        "(alpha_bar_s.log() - alpha_bar_t.log())",
        "(alpha_bar_s - alpha_bar_t)",
        "eq-reverse-sde-ancestral",
    ),
    Mutation(
        "sde",
        "return -(x_t + score(schedule, eps_hat, t)) / 2",
        "return -x_t / 2 - score(schedule, eps_hat, t)",
        "eq-ode-flow",
    ),
    Mutation(
        "sde",
        "x_t + dtau * (x_t / 2 + score(schedule, eps_hat, t))",
        "x_t + dtau * (x_t + score(schedule, eps_hat, t)) / 2",
        "eq-reverse-sde-ancestral",
    ),
    Mutation(
        "sde",
        "* alpha_bar.sqrt().to(x_t)\n",
        "* alpha_bar.to(x_t)\n",
        "eq-dpm-exact",
    ),
    Mutation(
        "sde",
        "(slope_before + slope_after) / 2",
        "slope_before",
        "eq-likelihood-path",
    ),
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.module}:{m.label}:{m.new[:40]}")
def test_mutation_is_caught(mutation):
    label = mutation.label
    found = ((n, f) for n, f in enumerate(failures(code_for(label), mutation)) if f)
    number, failed = next(found, (None, "nothing"))
    assert failed in (label, "an assertion")
    assert true_failure(label, number) == "", "this check fails with the true package too"


# ---- a law of the unit tests catches what no chapter states, or states in a slow check only

LAWS = [
    Mutation(
        "schedule",
        "torch.linspace(beta_1, beta_T, _steps(T), dtype=torch.float64)",
        "torch.linspace(beta_1, beta_T, _steps(T), dtype=torch.float64) ** 2",
        "test_schedule.test_linear_schedule_is_a_straight_line_with_the_stated_ends",
    ),
    Mutation(
        "schedule",
        "(angle * math.pi / 2).cos() ** 2",
        "(angle * math.pi / 2).cos()",
        "test_schedule.test_cosine_schedule_is_a_squared_cosine_until_the_clip",
    ),
    Mutation(
        "schedule",
        "torch.full((_steps(T),), beta,",
        "torch.full((_steps(T),), beta**2,",
        "test_schedule.test_constant_schedule_is_a_power",
    ),
    Mutation(
        "schedule",
        "log_alpha_bar[lower], log_alpha_bar[upper], fraction",
        "log_alpha_bar[upper], log_alpha_bar[lower], fraction",
        "test_schedule.test_alpha_bar_at_is_exact_at_integers_and_log_linear_between",
    ),
    Mutation(
        "objective",
        "at(weight, t, error) * error",
        "at(weight, t, error) ** 2 * error",
        "test_objective.test_weighted_loss_weighs_each_sample_by_its_t",
    ),
    Mutation(
        "objective",
        "kl(alpha_bar.sqrt() * x, 1 - alpha_bar,",
        "kl(alpha_bar * x, 1 - alpha_bar,",
        "test_objective.test_the_terms_add_up_to_the_log_ratio_of_whole_paths",
    ),
    Mutation(
        "objective",
        "kl(mu_tilde, beta_tilde, mu_theta, at(variance, t, x))",
        "kl(mu_tilde, at(variance, t, x), mu_theta, at(variance, t, x))",
        "test_objective.test_the_terms_add_up_to_the_log_ratio_of_whole_paths",
    ),
    Mutation(
        "objective",
        "kl(mu_tilde, beta_tilde, mu_theta, at(variance, t, x))",
        "kl(mu_theta, at(variance, t, x), mu_tilde, beta_tilde)",
        "test_objective.test_the_terms_add_up_to_the_log_ratio_of_whole_paths",
    ),
    Mutation(
        "objective",
        "decoder(x, x_0_hat, schedule.beta_tilde[2])",
        "decoder(x, x_0_hat, schedule.beta[1])",
        "test_objective.test_a_decoder_sees_x_0_x_0_hat_and_beta_tilde_2",
    ),
    Mutation(
        "objective",
        "(self.sizes * self.middle).sum(1)",
        "self.middle.sum(1)",
        "test_objective.test_a_stratified_sum_is_unbiased",
    ),
    Mutation(
        "objective",
        "edges[:-1] + 1 + (place * sizes).long()",
        "edges[1:] + 0 * (place * sizes).long()",
        "test_objective.test_a_stratified_sum_is_unbiased",
    ),
    Mutation(
        "objective",
        "torch.maximum(k + 1, T ** (k / K)).round()",
        "torch.maximum(k + 1, 1 + (T - 1) * k / K).round()",
        "test_objective.test_strata_cover_every_t_once",
    ),
    Mutation(
        "objective",
        "self.total.std() / math.sqrt(len(self.total))",
        "self.total.std() / len(self.total)",
        "test_objective.test_the_standard_error_is_the_spread_of_repeated_estimates",
    ),
    Mutation(
        "objective",
        "torch.where(k < 255, (k + 0.5) / 127.5 - 1, math.inf)",
        "(k + 0.5) / 127.5 - 1",
        "test_objective.test_the_masses_of_all_levels_add_up_to_one",
    ),
    Mutation(
        "objective",
        "a, b = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)",
        "a, b = a, b",
        "test_objective.test_far_tails_are_exact",
    ),
    Mutation(
        "metrics",
        "+ trace_b - 2 * overlap",
        "+ trace_b - overlap",
        "test_metrics.test_frechet_is_the_formula_with_a_matrix_root",
    ),
    Mutation(
        "metrics",
        "(u @ v.T / D + 1) ** 3",
        "(u @ v.T / D) ** 3",
        "test_metrics.test_kid_is_the_double_loop_over_pairs",
    ),
    Mutation(
        "metrics",
        "d.kthvalue(k + 1, dim=1)",
        "d.kthvalue(k, dim=1)",
        "test_metrics.test_precision_and_recall_are_their_definition",
    ),
    Mutation(
        "metrics",
        "torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))",
        "torch.xlogy(p, p) + torch.xlogy(p, p.mean(0))",
        "test_metrics.test_class_score_is_the_exponential_of_the_mutual_information",
    ),
    Mutation(
        "metrics",
        "(len(one) * (len(one) - 1))",
        "len(one) ** 2",
        "test_metrics.test_variety_is_the_mean_over_pairs_then_over_classes",
    ),
    Mutation(
        "oracle",
        "return score(schedule, self.eps(",
        "return -score(schedule, self.eps(",
        "test_oracle.test_score_is_the_gradient_of_the_log_density",
    ),
    Mutation(
        "schedule",
        "/ (fall[upper] - fall[lower])",
        "/ fall[upper]",
        "test_schedule.test_time_at_is_the_inverse_of_alpha_bar_at",
    ),
    Mutation(
        "schedule",
        "(T * (k.double() / steps) ** 2 + 0.5)",
        "(T * (k.double() / steps) ** 2)",
        "test_schedule.test_quadratic_grid_falls_from_T_to_0_along_squares",
    ),
    Mutation(
        "schedule",
        "1 + stride * torch.arange",
        "stride + stride * torch.arange",
        "test_schedule.test_leading_grid_falls_by_one_stride_to_1_and_then_to_0",
    ),
    Mutation(
        "metrics",
        "(np.arange(n) + 0.5) / n",
        "(np.arange(n) + 1) / (n + 1)",
        "test_metrics.test_quantiles_are_where_the_cdf_passes_the_middle_of_each_share",
    ),
    Mutation(
        "oracle",
        "data.diffused(schedule, t).log_prob(x).exp() * step",
        "data.log_prob(x).exp() * step",
        "test_oracle.test_least_error_is_the_loss_of_the_exact_denoiser",
    ),
    Mutation(
        "sampling",
        "error.double().cpu() / schedule.alpha_bar",
        "error.double().cpu()",
        "test_sampling.test_best_variance_is_beta_for_unit_variance_and_beta_tilde_for_a_point",
    ),
    Mutation(
        "sampling",
        "(eps_hat + model(x_s, s)) / 2, z)",
        "model(x_s, s), z)",
        "test_sampling.test_heun_is_an_euler_step_with_the_mean_slope",
    ),
    Mutation(
        "sampling",
        "ahead = 0.5 * (log_snr_s",
        "ahead = (log_snr_s",
        "test_sampling.test_dpm_solver_is_algorithm_2_of_its_paper",
    ),
    Mutation(
        "sampling",
        "/ (log_snr_t - log_snr_r)",
        "/ (log_snr_s - log_snr_r)",
        "test_sampling.test_dpm_solver_is_algorithm_2_of_its_paper",
    ),
    Mutation(
        "sampling",
        "before=before if goes_on else None",
        "before=before",
        "test_sampling.test_a_step_with_memory_is_told_of_the_step_before",
    ),
    Mutation(
        "score",
        "size * (1 - alpha_bar_like",
        "size * (alpha_bar_like",
        "test_score.test_annealed_step_is_a_langevin_step_in_units_of_the_noise",
    ),
    Mutation(
        "sde",
        "return (1 - variance).sqrt()",
        "return (1 - variance)",
        "test_sde.test_a_transition_of_one_step_is_the_chains",
    ),
    Mutation(
        "sde",
        "return x_s - dtau / 2 * x_s",
        "return x_s - dtau * x_s",
        "test_sde.test_one_euler_step_forward_is_the_chains_to_first_order",
    ),
    Mutation(
        "sde",
        "* (before + after) / 2\n\n\ndef predictor",
        "* after\n\n\ndef predictor",
        "test_sde.test_heun_is_the_trapezoid_rule",
    ),
    # the chain's own marginal, and the VAE
    Mutation(
        "oracle",
        "return push_density(x, x_0_hat, x, math.sqrt(variance_1))",
        "return x_0_hat",
        "test_oracle.test_chain_density_is_the_law_of_samples_with_noise_at_the_last_step",
    ),
    Mutation(
        "oracle",
        "variance_1 = float(schedule.beta_tilde[2])",
        "variance_1 = float(schedule.beta[1])",
        "test_oracle.test_chain_density_against_dense_quadrature",
    ),
    Mutation(
        "oracle",
        "step = partial(ddpm_step, variance=lambda _schedule, t, _s, like: at(variance, t, like))",
        "step = ddpm_step",
        "test_oracle.test_chain_density_against_dense_quadrature",
    ),
    Mutation(
        "networks/vae",
        "return mean + var.sqrt() * eps",
        "return mean + var * eps",
        "test_vae.test_a_reparameterised_draw_has_its_law_and_its_gradient",
    ),
    Mutation(
        "networks/vae",
        "return self.reconstruction - self.kl",
        "return self.reconstruction + self.kl",
        "test_vae.test_the_bound_is_below_the_evidence_and_its_weights_average_to_it",
    ),
]


settings.register_profile(
    "no shrinking", settings.get_profile("book"), phases=[Phase.explicit, Phase.generate]
)


@pytest.mark.parametrize("mutation", LAWS, ids=lambda m: f"{m.label}:{m.new[:40]}")
def test_mutation_breaks_a_law(mutation, tmp_path):
    module, law = mutation.label.split(".")
    theirs = {name: sys.modules.pop(name, None) for name in (module, "strategies")}
    try:
        with package(tmp_path, mutation):
            test = getattr(importlib.import_module(module), law)
            settings.load_profile("no shrinking")
            with pytest.raises(AssertionError):
                test()
    finally:
        settings.load_profile("book")
        for name, before in theirs.items():
            sys.modules.pop(name, None)
            if before is not None:
                sys.modules[name] = before


@pytest.mark.parametrize(
    "module",
    [
        "schedule",
        "gaussian",
        "forward",
        "posterior",
        "prediction",
        "objective",
        "oracle",
        "sampling",
        "metrics",
        "training",
        "score",
        "sde",
        "networks/vae",
    ],
)
def test_every_mathematical_module_is_mutated(module):
    assert any(m.module == module for m in MUTATIONS + LAWS)
