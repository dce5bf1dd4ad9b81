"""Mutations of guidance, of measurements and of the exact posterior.

module -> (old, new, label): in ddpm_lite/<module>.py `old`, which stands there once, becomes `new`,
and the check that the label names must fail: of an equation of the book, or a law of the tests.
"""

EQUATIONS: dict[str, list[tuple[str, str, str]]] = {}

LAWS = {
    "guidance": [
        (
            "return eps_none + by * (checked(asked, x_t, t) - eps_none)",
            "return checked(asked, x_t, t) + by * (checked(asked, x_t, t) - eps_none)",
            "test_guidance.test_the_other_convention_counts_from_the_conditional_model",
        ),
        (
            "(checked(asked, x_t, t) - eps_none)",
            "(eps_none - checked(asked, x_t, t))",
            "test_guidance.test_two_gaussians_a_class_are_as_the_formula_says",
        ),
        (
            "eps_hat - column(scale, x_t) * noise * slope",
            "eps_hat - column(scale, x_t) * slope",
            "test_guidance.test_the_true_classifier_guides_as_the_labels_do",
        ),
        (
            "logits.log_softmax(1)",
            "logits",
            "test_guidance.test_the_true_classifier_guides_as_the_labels_do",
        ),
        (
            "(low <= t) & (t <= high)",
            "(low <= t) | (t <= high)",
            "test_guidance.test_guidance_in_an_interval_is_guided_there_and_plain_elsewhere",
        ),
    ],
    "measurement": [
        (
            "(alpha_bar * data_std**2 + 1 - alpha_bar)",
            "1",
            "test_measurement.test_for_one_bell_guidance_through_x_0_hat_is_exact",
        ),
        (
            "(std**2 + r * values.to(r))",
            "(std + r * values.to(r))",
            "test_measurement.test_for_one_bell_guidance_through_x_0_hat_is_exact",
        ),
        (
            "column(scale, x_t) * noise * gradient",
            "column(scale, x_t) * gradient",
            "test_measurement.test_without_spread_it_is_the_gradient_of_the_residuals_square",
        ),
        (
            "signal * x_0 + noise * z()",
            "x_0 + noise * z()",
            "test_measurement.test_at_each_time_what_is_not_hidden_has_the_law_of_x_t",
        ),
        (
            "+ beta.sqrt().to(x.dtype) * z()",
            "+ 0 * z()",
            "test_measurement.test_replacement_of_independent_coordinates_is_exact",
        ),
    ],
    "mixture": [
        (
            "variance = std**2 + variances[..., None] * values",
            "variance = std**2 + values",
            "test_measurement.test_the_likelihood_of_a_measurement_is_the_mixtures_own_at_any_time",
        ),
        (
            "** 2 * (1 - alpha_bar) / variance",
            "** 2 / variance",
            "test_measurement.test_the_likelihood_of_a_measurement_is_the_mixtures_own_at_any_time",
        ),
        (
            "- std * z[:, A.shape[1] :]",
            "",
            "test_measurement.test_on_the_line_a_draw_of_the_posterior_is_one_number",
        ),
        (
            "+ self.prior.log().to(x_t.device)",
            "",
            "test_guidance.test_bayes_rule_for_scores_holds_at_every_noise_level",
        ),
    ],
}
