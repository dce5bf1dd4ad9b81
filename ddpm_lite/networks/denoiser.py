"""What a network's output means: x_0, eps or v, read as eps_hat."""

from __future__ import annotations

from torch import Tensor, nn

from ..checks import check_slope, readable
from ..prediction import from_v, predict_eps
from ..schedule import NoiseSchedule

READ = {
    "x_0": lambda schedule, x_t, t, out: predict_eps(schedule, x_t, t, out),
    "eps": lambda schedule, x_t, t, out: out,
    "v": lambda schedule, x_t, t, out: from_v(schedule, x_t, t, out)[1],
}


class Denoiser(nn.Module):
    """A network that returns ``output`` ("x_0", "eps" or "v"), as a model that returns eps_hat.

    Every sampler and loss then takes it. Raises ValueError for another ``output``, or where a slope
    by x_t is asked for and the network gives none (x_t has its own part in eps_hat, which would
    hide that), and FloatingPointError when the network's output is no longer finite, where that can
    be read for nothing (`checks.readable`).
    """

    def __init__(self, net: nn.Module, schedule: NoiseSchedule, output: str = "eps") -> None:
        super().__init__()
        if output not in READ:
            raise ValueError(f"output must be one of {', '.join(READ)}, got {output!r}")
        self.net, self.schedule, self.output = net, schedule, output

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x_t: [B, *D]; t: [B]; y: passed on to the network. Returns eps_hat [B, *D]."""
        out = self.net(x_t, t, y)
        check_slope(lambda x: self.net(x, t, y), x_t, out)
        if readable(out) and not out.isfinite().all():
            raise FloatingPointError("the network's output is not finite")
        return READ[self.output](self.schedule, x_t, t, out)
