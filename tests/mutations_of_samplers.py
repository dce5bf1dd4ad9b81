"""Mutations of the ways back from noise, of the score, and of continuous time.

module -> (old, new, label): in ddpm_lite/<module>.py `old`, which stands there once, becomes `new`,
and the check that the label names must fail: of an equation of the book, or a law of the tests.
"""

EQUATIONS = {
    "sampling": [
        (
            "mean, _ = posterior(schedule, x_0_hat, x_t, t, s)",
            "mean, _ = posterior(schedule, x_0_hat, x_0_hat, t, s)",
            "eq-mean-error",
        ),
        (
            "torch.where(noisy, sigma, 0.0) * z",
            "torch.where(noisy, sigma**2, 0.0) * z",
            "eq-ddpm-step",
        ),
        (
            "return step_variances(schedule, t, s, like)[0]",
            "return step_variances(schedule, t, s, like)[0] / 2",
            "eq-ddpm-step",
        ),
        ("var = eta**2 * beta_tilde_variance", "var = eta * beta_variance", "eq-ddim-posterior"),
        ("return noise_s / noise_t * beta\n", "return beta\n", "eq-ddim-posterior"),
        ("direction = (1 - alpha_bar - var)", "direction = (1 - alpha_bar)", "eq-ddim-posterior"),
        (
            "mean = alpha_bar.sqrt().to(x_t.dtype) * x_0_hat",
            "mean = alpha_bar.to(x_t.dtype) * x_0_hat",
            "eq-noise-free-half",
        ),
    ],
    "solvers": [
        (
            "x_0_hat = (x_s - noise_s * eps_hat) / signal_s",
            "x_0_hat = x_s - noise_s * eps_hat",
            "eq-invert-step",
        ),
        ("((1 - u) * angle).sin() * a", "(1 - u) * angle.sin() * a", "eq-slerp"),
    ],
    "score": [
        (
            "return slope + 0.5 * _sum(value**2)\n\n\ndef sliced",
            "return slope + _sum(value**2)\n\n\ndef sliced",
            "eq-score-loss-implicit",
        ),
        ("v * _gradient((v * value)", "v * _gradient(value", "eq-sliced-trace"),
        (
            "total = total + _gradient(flat[:, d], x)",
            "total = total - _gradient(flat[:, d], x)",
            "eq-score-loss-implicit",
        ),
        (
            "return 0.5 * _sum((value - target) ** 2)",
            "return _sum((value - target) ** 2)",
            "eq-score-loss-implicit",
        ),
        ("(2 * delta).sqrt() * z", "delta.sqrt() * z", "eq-langevin-sign"),
    ],
    "sde": [
        (
            "(alpha_bar_s.log() - alpha_bar_t.log())",
            "(alpha_bar_s - alpha_bar_t)",
            "eq-reverse-sde-ancestral",
        ),
        (
            "return -(x_t + score(schedule, eps_hat, t)) / 2",
            "return -x_t / 2 - score(schedule, eps_hat, t)",
            "eq-ode-flow",
        ),
        (
            "x_t + dtau * (x_t / 2 + score(schedule, eps_hat, t))",
            "x_t + dtau * (x_t + score(schedule, eps_hat, t)) / 2",
            "eq-reverse-sde-ancestral",
        ),
        ("* alpha_bar.sqrt().to(x_t)\n", "* alpha_bar.to(x_t)\n", "eq-dpm-exact"),
        ("(slope_before + slope_after) / 2", "slope_before", "eq-likelihood-path"),
    ],
}

LAWS = {
    "sampling": [
        (
            "at(error / schedule.alpha_bar,",
            "at(error,",
            "test_variances.test_best_variance_is_beta_for_unit_variance_and_beta_tilde_for_a_point",
        ),
    ],
    "solvers": [
        (
            "(eps_hat + checked(model, x_s, s_now)) / 2",
            "checked(model, x_s, s_now)",
            "test_solvers.test_heuns_step_is_the_first_ones_with_the_mean_of_both_ends",
        ),
        (
            "eps_hat, z, eta)\n        yield",
            "eps_hat, z, eta**0.5)\n        yield",
            "test_solvers.test_dpm_solver_with_half_its_noise_is_ddims_step_with_half",
        ),
        (
            "ahead = 0.5 * (log_snr_s",
            "ahead = (log_snr_s",
            "test_solvers.test_dpm_solver_is_algorithm_2_of_its_paper",
        ),
        (
            "/ (log_snr_t - log_snr_r)",
            "/ (log_snr_s - log_snr_r)",
            "test_solvers.test_dpm_solver_is_algorithm_2_of_its_paper",
        ),
        (
            "before = log_snr_t, x_0_hat",
            "before = before or (log_snr_t, x_0_hat)",
            "test_solvers.test_dpm_solver_is_algorithm_2_of_its_paper",
        ),
        (
            "x_s = x - dtau * (before + after) / 2",
            "x_s = x - dtau * after",
            "test_solvers.test_heuns_step_is_the_first_ones_with_the_mean_of_both_ends",
        ),
        (
            "dtau * before\n        if s > 0",
            "2 * dtau * before\n        if s > 0",
            "test_solvers.test_heuns_step_is_the_first_ones_with_the_mean_of_both_ends",
        ),
    ],
    "score": [
        (
            "size * (1 - alpha_bar_like",
            "size * (alpha_bar_like",
            "test_langevin.test_annealed_step_is_a_langevin_step_in_units_of_the_noise",
        ),
        (
            "size * (1 - alpha_bar_like(schedule, t, x_t))",
            "size * (1 - alpha_bar_like(schedule, t, x_t)).sqrt()",
            "test_langevin.test_annealed_step_is_a_langevin_step_in_units_of_the_noise",
        ),
    ],
    "sde": [
        (
            "return (1 - variance).sqrt()",
            "return (1 - variance)",
            "test_sde.test_a_transition_of_one_step_is_the_chains",
        ),
        (
            "return x_s - dtau / 2 * x_s",
            "return x_s - dtau * x_s",
            "test_sde.test_one_euler_step_forward_is_the_chains_to_first_order",
        ),
        ("still = s == t", "still = s != t", "test_sde.test_steps_back_are_what_they_say"),
        (
            "dtau * (x_t / 2 + score(schedule, eps_hat, t)) + dtau.sqrt()",
            "dtau * (x_t / 2 + score(schedule, eps_hat, t)) + dtau",
            "test_sde.test_steps_back_are_what_they_say",
        ),
    ],
}
