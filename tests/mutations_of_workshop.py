"""Mutations of what is around the mathematics: data, measures, networks, training.

module -> (old, new, label): in ddpm_lite/<module>.py `old`, which stands there once, becomes `new`,
and the check that the label names must fail: of an equation of the book, or a law of the tests.
"""

EQUATIONS = {
    "training/config": [
        (
            "return 0.5 * (1 + math.cos(math.pi * done))",
            "return math.cos(0.5 * math.pi * done)",
            "eq-learning-rate",
        ),
        (
            "min(config.ema_decay, (1 + n) / (10 + n))",
            "min(config.ema_decay, (1 + n) / (2 + n))",
            "eq-ema-warmup",
        ),
    ],
    "training/loop": [
        (
            "average += share * (now - average)",
            "average += (1 - share) * (now - average)",
            "eq-ema",
        ),
    ],
}

LAWS = {
    "data/digits": [
        ("/ 127.5 - 1", "/ 128 - 1", "test_data.test_to_unit_maps_pixels_to_minus_one_to_one"),
        (
            ".clamp(-1, 1) + 1) * 127.5)",
            ".clamp(-1, 1) + 1) * 128)",
            "test_data.test_to_bytes_takes_the_nearest_of_256_levels",
        ),
    ],
    "metrics/line": [
        (
            "(np.arange(n) + 0.5) / n",
            "(np.arange(n) + 1) / (n + 1)",
            "test_metrics_line.test_quantiles_are_where_the_cdf_passes_the_middle_of_each_share",
        ),
        (
            "((p - q).cumsum(0) * step).abs()",
            "((p - q).cumsum(0) * step)",
            "test_metrics_line.test_w1_density_of_gaussians_in_closed_form",
        ),
        (
            "weights * ndtr((np.asarray(x)[..., None] - means) / stds)",
            "ndtr((np.asarray(x)[..., None] - means) / stds)",
            "test_metrics_line.test_mixture_cdf_is_the_integral_of_the_density",
        ),
    ],
    "metrics/images": [
        (
            "+ trace_b - 2 * overlap",
            "+ trace_b - overlap",
            "test_metrics_features.test_frechet_is_the_formula_with_a_matrix_root",
        ),
        (
            "(u @ v.T / D + 1) ** 3",
            "(u @ v.T / D) ** 3",
            "test_metrics_features.test_kid_is_the_double_loop_over_pairs",
        ),
        (
            "d.kthvalue(k + 1, dim=1)",
            "d.kthvalue(k, dim=1)",
            "test_metrics_features.test_precision_and_recall_are_their_definition",
        ),
        (
            "torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))",
            "torch.xlogy(p, p) + torch.xlogy(p, p.mean(0))",
            "test_metrics_features.test_class_score_is_the_exponential_of_the_mutual_information",
        ),
        (
            "(len(one) * (len(one) - 1))",
            "len(one) ** 2",
            "test_metrics_images.test_variety_is_the_mean_over_pairs_then_over_classes",
        ),
    ],
    "networks/denoiser": [
        (
            "from_v(schedule, x_t, t, out)[1]",
            "from_v(schedule, x_t, t, out)[0]",
            "test_denoiser.test_the_truth_in_each_form_is_eps",
        ),
    ],
    "networks/mlp": [
        (
            "(t.to(x.device, dtype) / self.T)",
            "(t.to(x.device, dtype))",
            "test_mlp.test_time_is_a_fraction_of_T_whole_or_not",
        ),
    ],
    "networks/unet": [
        (
            "10_000 ** (-k / (width // 2))",
            "10_000 ** (-k / width)",
            "test_unet_parts.test_the_waves_of_time",
        ),
        (
            "q.mT @ k / math.sqrt(q.shape[1])",
            "q.mT @ k",
            "test_unet_parts.test_attention_is_that_of_torch",
        ),
        (
            "self.norm_2(h), 1 + scale",
            "self.norm_2(h), scale",
            "test_unet_parts.test_a_block_is_steered_by_scale_and_shift",
        ),
    ],
    "networks/vae": [
        (
            "return mean + var.sqrt() * eps",
            "return mean + var * eps",
            "test_vae.test_a_reparameterised_draw_has_its_law_and_its_gradient",
        ),
        (
            "return self.reconstruction - self.kl",
            "return self.reconstruction + self.kl",
            "test_vae.test_the_bound_is_below_the_evidence_and_its_weights_average_to_it",
        ),
    ],
    "tasks/diffusion": [
        (
            '"x_0": 1 / schedule.snr,',
            '"x_0": schedule.snr,',
            "test_denoiser.test_output_weight_makes_the_loss_that_of_what_is_said",
        ),
        (
            "schedule.alpha_bar**-0.5",
            "schedule.alpha_bar**0.5",
            "test_denoiser.test_output_weight_makes_the_loss_that_of_what_is_said",
        ),
    ],
}
