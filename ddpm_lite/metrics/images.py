"""How far drawn images are from real ones, as a classifier and as pixels see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SLICE = 4_000_000  # distances at a time: 32 MB


# ---- what a classifier sees in images ------------------------------------------------------------


def features(classifier, images: Tensor, batch: int = 500) -> Tensor:
    """What ``classifier`` sees in images (uint8 [N, H, W]): its `features` [N, D], on the CPU."""
    return _read(classifier, classifier.features, images, batch)


def probabilities(classifier, images: Tensor, batch: int = 500) -> Tensor:
    """p(y | x) of each image (uint8 [N, H, W]): [N, classes], on the CPU."""
    return _read(classifier, classifier, images, batch).softmax(1)


def accuracy(classifier, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    """The share of images (uint8 [N, H, W]) in which ``classifier`` reads their label [N].

    Its ceiling is the share on real digits. Blind to collapse: ten good digits, repeated, reach 1.
    """
    found = probabilities(classifier, images, batch).argmax(1)
    return float((found == _labels(images, labels)).double().mean())


def class_score(p: Tensor) -> float:
    """exp E KL(p(y|x) || p(y)), 1 to C, of probabilities p [N, C] (eq-class-score).

    The inception score (Salimans et al. 2016) with a classifier of digits. It never sees a real
    image: one sharp picture a class, repeated, has the full score, and so has sharp nonsense.
    """
    p = _rows("p", p)
    if (p < 0).any() or ((p.sum(1) - 1).abs() > 1e-4).any():
        raise ValueError("each row of p must hold probabilities: none negative, sum 1")
    kl = (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1)
    return float(kl.mean().exp())


# ---- two sets of features ------------------------------------------------------------------------


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to a [n, D] and b [m, D] (eq-frechet).

    In the features of a small MNIST classifier: nothing to compare with an Inception FID (Heusel
    et al. 2017). It sees two moments, and falls as n grows even where the laws are the same: put
    real against real at the same n beside it. n, m >= 2; singular covariances are no obstacle.
    """
    a, b = _pair("a", a, "b", b)
    gap = a.mean(0) - b.mean(0)
    (root_a, trace_a), (root_b, trace_b) = _root_of_covariance(a), _root_of_covariance(b)
    # tr (A^1/2 B A^1/2)^1/2: the sum of the singular values of A^1/2 B^1/2.
    overlap = torch.linalg.svdvals(root_a @ root_b).sum()
    return max(0.0, float(gap @ gap + trace_a + trace_b - 2 * overlap))


def kid(a: Tensor, b: Tensor, block: int = 1000, seed: int = 0) -> tuple[float, float]:
    """MMD^2 of a [n, D] and b [m, D] with the kernel (x.y / D + 1)^3 (eq-kid), and its error.

    Each set is dealt into disjoint random blocks of ``block`` samples (fewer where that leaves no
    two blocks); the mean over pairs of blocks, and the standard error of that mean. Unbiased at
    any n: where the laws are the same it is about 0, of either sign (Binkowski et al. 2018). It
    sees three moments; a flaw smaller than the error is lost in it. n, m >= 4.
    """
    a, b = _pair("a", a, "b", b)
    block = min(block, len(a) // 2, len(b) // 2)
    if block < 2:
        raise ValueError(
            f"kid needs blocks of 2 samples or more, and two of them from each set: {block} a "
            f"block, of {len(a)} and {len(b)} samples, is too few"
        )
    generator = torch.Generator().manual_seed(seed)
    a, b = (s[torch.randperm(len(s), generator=generator)] for s in (a, b))
    pairs = list(zip(a.split(block), b.split(block), strict=False))[: min(len(a), len(b)) // block]
    values = torch.stack([_mmd(x, y) for x, y in pairs])
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """The share of fake that lies in real, and of real that lies in fake (eq-precision-recall).

    real: [n, D]; fake: [m, D]. A set reaches around each of its points as far as the k-th
    neighbour in the set (Kynkaanniemi et al. 2019). Blind to how the samples are spread within:
    a few far from all others widen their set, and copies of real images have full precision.
    """
    real, fake = _pair("real", real, "fake", fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"k must be at least 1 and less than n and m, got {k} for {len(real)} and {len(fake)}"
        )
    return _share_within(fake, real, k), _share_within(real, fake, k)


# ---- images, pixel by pixel ----------------------------------------------------------------------


def variety(images: Tensor, labels: Tensor) -> float:
    """Mean L2 distance of two images of one class, averaged over the classes (eq-variety).

    images: uint8 [N, H, W], of which pixels count as 0..1; labels: [N], two or more of each.
    Every pair counts. It sees the collapse that accuracy cannot; noise has more of it than digits.
    """
    x, y = _pixels("images", images), _labels(images, labels)
    means = []
    for label in y.unique():
        one = x[y == label]
        if len(one) < 2:
            raise ValueError(f"one image of class {int(label)}, but a pair needs two")
        total = torch.stack([d.sum() for d in _distances(one, one)]).sum()
        means.append(total / 255 / (len(one) * (len(one) - 1)))
    return float(torch.stack(means).mean())


def neighbours(images: Tensor, reference: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest reference images of each image: distances and indices [N, k], nearest first.

    images: uint8 [N, H, W]; reference: uint8 [M, H, W]; L2, pixels counting as 0..1, exact:
    a copy is at 0. Blind to copies that moved: a digit two pixels aside is far from itself.
    """
    x, y = _pixels("images", images), _pixels("reference", reference)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            "images and reference must have one size, got "
            f"{list(images.shape[1:])} and {list(reference.shape[1:])}"
        )
    if not 1 <= k <= len(y):
        raise ValueError(f"k must lie in 1..{len(y)}, the number of references, got {k}")
    near = [d.topk(k, dim=1, largest=False) for d in _distances(x, y)]
    return torch.cat([n.values for n in near]) / 255, torch.cat([n.indices for n in near])


# ---- what the measures are made of ---------------------------------------------------------------


@torch.no_grad()
def _read(classifier, function: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> Tensor:
    _check_images("images", images)
    if classifier.training:
        raise ValueError("the classifier is in training mode: call its eval() first")
    like = next(classifier.parameters())
    colour = images[:, None] if images.ndim == 3 else images
    parts = (part.to(like) / 127.5 - 1 for part in colour.split(batch))
    return torch.cat([function(x).cpu() for x in parts])


def _root_of_covariance(a: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric square root [D, D] of the covariance of a [n, D]; and its trace, unrooted."""
    covariance = a.T.cov().reshape(a.shape[1], a.shape[1])
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T, covariance.trace()


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased MMD^2 of two blocks [n, D]: no sample is compared with itself."""
    n, D = x.shape
    xx, yy, xy = ((u @ v.T / D + 1) ** 3 for u, v in ((x, x), (y, y), (x, y)))
    return (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (n * (n - 1)) - 2 * xy.mean()


def _share_within(points: Tensor, members: Tensor, k: int) -> float:
    # The nearest of a member's own distances is the 0 to itself.
    reach = torch.cat([d.kthvalue(k + 1, dim=1).values for d in _distances(members, members)])
    within = torch.cat([(d <= reach).any(1) for d in _distances(points, members)])
    return float(within.double().mean())


def _distances(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """L2 distances of a [n, D] to b [m, D]: the rows of [n, m], some at a time.

    By |a|^2 + |b|^2 - 2 a.b, which is exact for pixels: whole numbers far below 2^53.
    """
    squares = b.square().sum(1)
    for some in a.split(max(1, SLICE // len(b))):
        yield (some.square().sum(1)[:, None] + squares - 2 * some @ b.T).clamp(min=0).sqrt()


def _check_images(name: str, images: Tensor) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(images).__name__}")
    if images.dtype != torch.uint8 or images.ndim not in (3, 4) or len(images) == 0:
        raise ValueError(
            f"{name} must be uint8 [N, H, W] or [N, C, H, W] with N >= 1, got "
            f"{images.dtype} {list(images.shape)}"
        )


def _pixels(name: str, images: Tensor) -> Tensor:
    """The pixels 0..255 of images in float64: [N, H W], or [N, C H W]."""
    _check_images(name, images)
    return images.cpu().flatten(1).double()


def _labels(images: Tensor, labels: Tensor) -> Tensor:
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be [{len(images)}], one an image, got {list(labels.shape)}")
    return labels.cpu()


def _rows(name: str, a: Tensor) -> Tensor:
    """a [n, D] in float64, checked."""
    if not isinstance(a, Tensor) or a.is_complex():
        raise TypeError(f"{name} must be a tensor of real numbers, got {type(a).__name__}")
    if a.ndim != 2 or len(a) < 2 or a.shape[1] < 1:
        raise ValueError(f"{name} must be [n, D] with n >= 2, got {list(a.shape)}")
    if not torch.isfinite(a).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity: look at what made it")
    return a.detach().cpu().double()


def _pair(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = _rows(name_a, a), _rows(name_b, b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{name_a} and {name_b} must have the same features, got {a.shape[1]} and {b.shape[1]}"
        )
    return a, b
