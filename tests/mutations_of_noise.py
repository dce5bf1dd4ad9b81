"""Mutations of the laws of noise: Gaussians, schedules, the way forward and the step back.

module -> (old, new, label): in ddpm_lite/<module>.py `old`, which stands there once, becomes `new`,
and the check that the label names must fail: of an equation of the book, or a law of the tests.
"""

EQUATIONS = {
    "gaussian": [
        ("(2 * math.pi * var).log())", "(math.pi * var).log())", "eq-gaussian-flip"),
        ("ratio - 1 - ratio.log()", "ratio - 1 + ratio.log()", "eq-gaussian-kl"),
        ("(mean_p - mean_q) ** 2 / var_q", "(mean_p - mean_q).abs() / var_q", "eq-gaussian-kl"),
        (
            "0.5 * (2 * math.pi * math.e * var).log()",
            "0.5 * (2 * math.pi * var).log()",
            "eq-entropy-start",
        ),
        (
            "precision = 1 / var_a + 1 / var_b",
            "precision = 1 / (var_a + var_b)",
            "eq-gaussian-product",
        ),
        (
            "(mean_a / var_a + mean_b / var_b)",
            "(mean_a / var_b + mean_b / var_a)",
            "eq-gaussian-product",
        ),
        ("a * mean + b, a**2 * var", "a * mean + b, a * var", "eq-gaussian-affine"),
        ("M @ self.cov @ M.mT)", "M @ self.cov @ self.cov @ M.mT)", "eq-gaussian-affine-vectors"),
        (
            "_times(L[..., K:, :K], eps)",
            "2 * _times(L[..., K:, :K], eps)",
            "eq-gaussian-conditional",
        ),
        ("square - 1 - square.log()", "square - 1 + square.log()", "eq-gaussian-kl-vectors"),
    ],
    "schedule": [
        ("alpha = 1 - beta\n", "alpha = (1 - beta) ** 2\n", "eq-forward-induction"),
        (
            "alpha_bar = alpha.cumprod(0)",
            "alpha_bar = alpha.sqrt().cumprod(0)",
            "eq-variance-recursion",
        ),
        ("snr = alpha_bar / noise", "snr = alpha_bar / noise**2", "eq-steps-to-snr"),
        ("noise[:-1] / noise[1:] * beta[1:]", "beta[1:]", "eq-beta-tilde-snr"),
        (
            "return _from_steps(1 - alpha_bar[1:] / alpha_bar[:-1])",
            "return _from_steps(1 - (alpha_bar[1:] / alpha_bar[:-1]).sqrt())",
            "eq-respaced",
        ),
        (
            "return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt()",
            "return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar)",
            "eq-v-rotation",
        ),
    ],
    "forward": [
        (
            "at(schedule.alpha.sqrt(), t, x_prev) * x_prev",
            "at(schedule.alpha, t, x_prev) * x_prev",
            "eq-forward-closed",
        ),
        (
            "at(schedule.beta.sqrt(), t, x_prev) * eps",
            "at(schedule.beta, t, x_prev) * eps",
            "eq-forward-closed",
        ),
        ("at(schedule.alpha.sqrt(), t, x_prev) * x_prev", "x_prev", "eq-step-solved"),
        (
            "at(schedule.alpha_bar.sqrt(), t, x_0) * x_0",
            "at(schedule.alpha_bar, t, x_0) * x_0",
            "eq-forward-closed",
        ),
        (
            "at((1 - schedule.alpha_bar).sqrt(), t, x_0)",
            "at(1 - schedule.alpha_bar, t, x_0)",
            "eq-forward-closed",
        ),
    ],
    "posterior": [
        ("alpha_bar_s.sqrt() * beta / noise_t", "alpha_bar_s * beta / noise_t", "eq-mu-tilde"),
        ("(1 - beta).sqrt() * noise_s / noise_t", "(1 - beta).sqrt()", "eq-mu-tilde"),
        ("(noise_s / noise_t * beta).to", "beta.to", "eq-beta-tilde"),
        (
            "return 1 - alpha_bar_t / alpha_bar_s,",
            "return 1 - (alpha_bar_t / alpha_bar_s).sqrt(),",
            "eq-weights-sum",
        ),
    ],
    "prediction": [
        ("(x_t - noise * eps) / signal", "(x_t - noise * eps) / signal**2", "eq-x0-from-eps"),
        ("(x_t - noise * eps) / signal", "(x_t + noise * eps) / signal", "eq-x0-from-eps"),
        ("(x_t - signal * x_0) / noise", "(x_t - signal * x_0) / noise**2", "eq-eps-from-x0"),
        ("return signal * eps - noise * x_0", "return signal * eps + noise * x_0", "eq-v-rotation"),
        (
            "return signal * x_t - noise * v,",
            "return signal * x_t + noise * v,",
            "eq-error-factors",
        ),
        ("noise * x_t + signal * v\n", "noise * x_t - signal * v\n", "eq-error-factors"),
        ("return -eps / noise", "return eps / noise", "eq-score-eps"),
        ("return -eps / noise", "return -eps / noise**2", "eq-score-eps"),
    ],
}

LAWS = {
    "gaussian": [
        (
            "_times(self.scale, eps)",
            "eps",
            "test_gaussian_vectors.test_samples_have_the_mean_and_the_covariance",
        ),
        (
            "_times(M, self.mean) + noise.mean",
            "_times(M, self.mean)",
            "test_gaussian_vectors.test_joint_has_its_marginals_and_its_conditional",
        ),
    ],
    "schedule": [
        (
            'torch.linspace(beta_1, beta_T, _steps(T), dtype=torch.float64, device="cpu")',
            "torch.linspace(beta_1, beta_T, _steps(T), dtype=torch.float64) ** 2",
            "test_schedule.test_linear_schedule_is_a_straight_line_with_the_stated_ends",
        ),
        (
            "(angle * math.pi / 2).cos() ** 2",
            "(angle * math.pi / 2).cos()",
            "test_schedule.test_cosine_schedule_is_a_squared_cosine_until_the_clip",
        ),
        (
            "torch.full((_steps(T),), beta,",
            "torch.full((_steps(T),), beta**2,",
            "test_schedule.test_constant_schedule_is_a_power",
        ),
        (
            "log_alpha_bar[lower], log_alpha_bar[upper], fraction",
            "log_alpha_bar[upper], log_alpha_bar[lower], fraction",
            "test_schedule.test_alpha_bar_at_is_exact_at_integers_and_log_linear_between",
        ),
        (
            "/ (fall[upper] - fall[lower])",
            "/ fall[upper]",
            "test_schedule.test_time_at_is_the_inverse_of_alpha_bar_at",
        ),
    ],
    "times": [
        (
            "(shift * u / (1 - u)) ** 2",
            "(u / (1 - u)) ** 2",
            "test_times.test_shifted_grid_is_even_in_the_share_of_the_noise",
        ),
        (
            "(1 / schedule.alpha_bar.cpu() - 1).sqrt()",
            "(1 / schedule.alpha_bar.cpu() - 1)",
            "test_times.test_shifted_grid_is_even_in_the_share_of_the_noise",
        ),
        (
            "(times - k).cummax(0).values + k",
            "times",
            "test_times.test_shifted_grid_falls_from_T_to_0_by_one_at_least",
        ),
        (
            "(T * (k.double() / steps) ** 2 + 0.5)",
            "(T * (k.double() / steps) ** 2)",
            "test_times.test_quadratic_grid_falls_from_T_to_0_along_squares",
        ),
        (
            "1 + stride * (k - 1)",
            "stride + stride * (k - 1)",
            "test_times.test_leading_grid_falls_by_one_stride_to_1_and_then_to_0",
        ),
        (
            'device="cpu").round().long()',
            'device="cpu").floor().long()',
            "test_times.test_timestep_grid_falls_from_T_to_0_as_evenly_as_integers_can",
        ),
        (
            "repeat_interleave(1 + int(pauses))",
            "repeat_interleave(int(pauses))",
            "test_times.test_paused_times",
        ),
    ],
    "prediction": [
        (
            "x_0_hat.clamp(-limit, limit)",
            "x_0_hat",
            "test_prediction.test_clipped_is_consistent_and_the_model_where_that_is_in_range",
        ),
    ],
}
