"""ddpm_lite: the code of "Diffusion from the Likelihood Up", a formula a line."""

__version__ = "0.1.0"
