"""Mutations of what a model is held against: the loss, the bound, mixtures, densities.

module -> (old, new, label): in ddpm_lite/<module>.py `old`, which stands there once, becomes `new`,
and the check that the label names must fail: of an equation of the book, or a law of the tests.
"""

EQUATIONS = {
    "loss": [
        ("error = (eps_hat - eps) ** 2", "error = (eps_hat - eps).abs()", "eq-simple-loss"),
        (
            "beta**2 / (2 * variance[2:] * alpha * noise)",
            "beta**2 / (variance[2:] * alpha * noise)",
            "eq-eps-weight",
        ),
        (
            "beta**2 / (2 * variance[2:] * alpha * noise)",
            "beta**2 / (2 * variance[2:] * noise)",
            "eq-eps-weight",
        ),
        (
            "beta**2 / (2 * variance[2:] * alpha * noise)",
            "beta / (2 * variance[2:] * alpha * noise)",
            "eq-eps-weight",
        ),
        ("[2:] * schedule.snr[2:]", "[2:] * schedule.snr[2:].sqrt()", "eq-x0-weight"),
    ],
    "bound": [
        (
            "mu_tilde, beta_tilde = posterior(schedule, x, x_t, t)",
            "mu_tilde, beta_tilde = posterior(schedule, x_t, x_t, t)",
            "eq-bound-terms",
        ),
        (
            "torch.where(k > 0, (k - 0.5) / 127.5 - 1, -math.inf)",
            "torch.where(k > 0, (k - 1) / 127.5 - 1, -math.inf)",
            "eq-discretised-decoder",
        ),
        ("nats / (dims * math.log(2))", "nats / dims", "eq-bits-per-dim"),
    ],
    "mixture": [
        (
            "(alpha_bar * self.stds**2 + 1 - alpha_bar).sqrt()",
            "(alpha_bar * self.stds + 1 - alpha_bar).sqrt()",
            "eq-mixture-marginal",
        ),
        (
            "alpha_bar.sqrt() * self.means, stds)",
            "alpha_bar * self.means, stds)",
            "eq-mixture-marginal",
        ),
        (
            "variance = alpha_bar * self.stds.to(x.device) ** 2 + 1 - alpha_bar",
            "variance = self.stds.to(x.device) ** 2 + 1 - alpha_bar",
            "eq-reverse-moments",
        ),
        (
            "alpha_bar.sqrt() * self.stds.to(x.device) ** 2 / variance",
            "alpha_bar * self.stds.to(x.device) ** 2 / variance",
            "eq-reverse-moments",
        ),
        ("+ 1 - alpha_bar\n        signal", "+ 1\n        signal", "eq-exact-x0"),
        ("given_k = means + gain *", "given_k = signal * means + gain *", "eq-exact-x0"),
        (
            "predict_eps(schedule, x, t, x_0).to",
            "predict_eps(schedule, x, t, -x_0).to",
            "eq-exact-eps",
        ),
    ],
    "density": [
        (
            "(x_t - (1 - beta).sqrt() * x) ** 2 / beta",
            "(x_t - (1 - beta) * x) ** 2 / beta",
            "eq-posterior-average",
        ),
        ("-f * (f - 1) * (f - 2) / 6,", "f * (f - 1) * (f - 2) / 6,", "eq-push"),
        (
            "torch.exp(-0.5 * (std * frequency) ** 2)",
            "torch.exp(-0.5 * std * frequency**2)",
            "eq-push",
        ),
    ],
}

LAWS = {
    "loss": [
        (
            "at(weight, t, error) * error",
            "at(weight, t, error) ** 2 * error",
            "test_loss.test_weighted_loss_weighs_each_sample_by_its_t",
        ),
        (
            "(torch.arange(n, device=generator.device) + u) / n",
            "u",
            "test_loss.test_stratified_times_are_one_in_each_part",
        ),
        (
            "torch.randint(1, T + 1,",
            "torch.randint(1, T,",
            "test_loss.test_t_and_eps_are_those_of_algorithm_1",
        ),
    ],
    "bound": [
        (
            "math.log2(255 / 2)",
            "math.log2(255)",
            "test_decoder.test_an_even_density_over_all_bins_spends_8_bits_on_every_level",
        ),
        (
            "x + (2 * u - 1) / 255",
            "x + u / 255",
            "test_decoder.test_dequantised_bits_bound_those_of_the_mass_and_close_in_on_them",
        ),
        (
            "kl(alpha_bar.sqrt() * x, 1 - alpha_bar,",
            "kl(alpha_bar * x, 1 - alpha_bar,",
            "test_bound.test_the_terms_add_up_to_the_log_ratio_of_whole_paths",
        ),
        (
            "kl(mu_tilde, beta_tilde, mu_theta, at(variance, t, x))",
            "kl(mu_tilde, at(variance, t, x), mu_theta, at(variance, t, x))",
            "test_bound.test_the_terms_add_up_to_the_log_ratio_of_whole_paths",
        ),
        (
            "kl(mu_tilde, beta_tilde, mu_theta, at(variance, t, x))",
            "kl(mu_theta, at(variance, t, x), mu_tilde, beta_tilde)",
            "test_bound.test_the_terms_add_up_to_the_log_ratio_of_whole_paths",
        ),
        (
            "decoder(x, x_0_hat, schedule.beta_tilde[2])",
            "decoder(x, x_0_hat, schedule.beta[1])",
            "test_decoder.test_a_decoder_sees_x_0_x_0_hat_and_beta_tilde_2",
        ),
        (
            "(self.sizes * self.middle).sum(1)",
            "self.middle.sum(1)",
            "test_strata.test_a_stratified_sum_is_unbiased",
        ),
        (
            "edges[:-1] + 1 + (place * sizes).long()",
            "edges[1:] + 0 * (place * sizes).long()",
            "test_strata.test_a_stratified_sum_is_unbiased",
        ),
        (
            "torch.maximum(k + 1, T ** (k / K)).round()",
            "torch.maximum(k + 1, 1 + (T - 1) * k / K).round()",
            "test_strata.test_strata_cover_every_t_once",
        ),
        (
            "self.total.std() / math.sqrt(len(self.total))",
            "self.total.std() / len(self.total)",
            "test_strata.test_the_standard_error_is_the_spread_of_repeated_estimates",
        ),
        (
            "torch.where(k < 255, (k + 0.5) / 127.5 - 1, math.inf)",
            "(k + 0.5) / 127.5 - 1",
            "test_decoder.test_the_masses_of_all_levels_add_up_to_one",
        ),
        (
            "a, b = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)",
            "a, b = a, b",
            "test_decoder.test_far_tails_are_exact",
        ),
    ],
    "mixture": [
        (
            "return score(schedule, self.eps(",
            "return -score(schedule, self.eps(",
            "test_mixture.test_score_is_the_gradient_of_the_log_density",
        ),
    ],
    "density": [
        (
            "float(moved[-1] - moved[0])",
            "float(moved[-1] - moved[0]) / 2",
            "test_density.test_sampled_density_of_one_gaussian_is_gaussian",
        ),
        (
            "data.diffused(schedule, t).log_prob(x).exp() * step",
            "data.log_prob(x).exp() * step",
            "test_density.test_least_error_is_the_loss_of_the_exact_denoiser",
        ),
        (
            "return push_density(x, x_0_hat, x, math.sqrt(variance_1))",
            "return x_0_hat",
            "test_chain_density.test_chain_density_is_the_law_of_samples_with_noise_at_the_last_step",
        ),
        (
            "variance_1 = float(schedule.beta_tilde[2])",
            "variance_1 = float(schedule.beta[1])",
            "test_chain_density.test_chain_density_against_dense_quadrature",
        ),
        (
            "variance=lambda _schedule, t, _s, like: at(variance, t, like))",
            "variance=lambda _schedule, t, _s, like: at(schedule.beta, t, like))",
            "test_chain_density.test_chain_density_against_dense_quadrature",
        ),
    ],
}
