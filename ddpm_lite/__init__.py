"""ddpm_lite: the code of "Diffusion from the Likelihood Up", a formula a line.

The mathematics, each module on those above it:

    gaussian     laws of Gaussians                                                      chapter 3
    schedule     how much noise, when: beta, alpha_bar, the signal-to-noise ratio       chapter 6
    times        grids of times for a walk
    forward      q_step, q_sample: from data to noise                                   chapter 6
    posterior    the step back when x_0 is known: mu_tilde, beta_tilde                  chapter 8
    prediction   x_0, eps, v and the score are one thing; clipped(model)                chapter 9
    loss         what a denoiser is trained on                                          chapter 9
    sampling     a step back, and the walk: ddpm_step, ddim_step, sample, last    chapters 11, 17
    bound        the variational bound, term by term; bits/dim                     chapters 7, 16
    mixture      a Gaussian mixture, for which all is exact                       chapters 6 to 13
    density      densities carried through a chain on a grid                     chapters 10 to 13
    score, sde   Langevin, the SDE and the ODE                                     chapters 12, 13
    solvers      Heun, DPM-Solver++, inversion                                     chapters 13, 17
    guidance     towards a label, by the model itself or a classifier                   chapter 18
    measurement  towards what was seen of x_0; inpainting                               chapter 18

Around it:

    networks     MLP, U-Net, VAE, classifier; Denoiser reads an output as eps       chapters 5, 14
    data         MNIST, which travels with the package; one's own pictures
    metrics      how far samples are from the truth: on the line, of images       chapters 10, 16
    training     one loop for every model; checkpoints; runs in a folder               chapter 15
    tasks        what can be trained, sampled and measured, one file a kind
    doctor       what is wrong with a diffusion program; bugs, its wrong twins          chapter 23
    cli          ddpm-lite train | sample | evaluate | info
    verify, live, plots    the book's own tools

A model is any callable ``model(x_t, t) -> eps_hat``. To begin::

    from ddpm_lite.mixture import two_modes
    from ddpm_lite.sampling import last, sample
    from ddpm_lite.schedule import linear_schedule

    schedule, data = linear_schedule(T=1000), two_modes()
    points = last(sample(data.denoiser(schedule), schedule, shape=(1000,), steps=100))
"""

__version__ = "0.2.0"
