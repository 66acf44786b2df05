"""How alike the answers of two networks are."""

from __future__ import annotations

import torch

TINY = 1e-12


def centred_gram(x: torch.Tensor) -> torch.Tensor:
    """Inner products (n, n) of the responses (n, ...) of a layer to n inputs, in double precision.

    The diagonal is left out and rows and columns are centred as the unbiased estimator of the
    Hilbert-Schmidt independence criterion needs it (L. Song et al., "Feature selection via
    dependence maximization", 2012), so that the mean of the products of two such matrices is it.
    """
    flat = x.flatten(1)
    if flat.device.type == "mps":  # which has no doubles
        flat = flat.cpu()
    # Differences between responses matter, not their mean: taking it off first spares digits.
    flat = (flat - flat.mean(0, keepdim=True)).double()
    gram = flat @ flat.T
    n = len(gram)
    if n < 4:
        raise ValueError("at least four inputs are needed")
    gram.fill_diagonal_(0.0)
    rows = gram.sum(1) / (n - 2)
    centre = rows.sum() / (2 * (n - 1))
    gram = gram - (rows - centre)[:, None] - (rows - centre)[None, :]
    return gram.fill_diagonal_(0.0)


def cka(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Linear centred kernel alignment of layers, 1 for equal ones, about 0 for unrelated ones.

    Of minibatches, with the unbiased estimator (S. Kornblith et al., "Similarity of neural network
    representations revisited", ICML 2019; T. Nguyen, M. Raghu and S. Kornblith, "Do wide and deep
    networks learn the same things?", ICLR 2021).

    Parameters
    ----------
    a, b : Tensor (batches, layers, n, n)
        What `centred_gram` makes of the layers' responses to the same inputs; the numbers of
        layers may differ.

    Returns
    -------
    Tensor (layers of a, layers of b)
        NaN where a layer answers to all inputs alike.
    """
    cross = torch.einsum("tinm,tjnm->ij", a, b)
    own_a = torch.einsum("tinm,tinm->i", a, a)
    own_b = torch.einsum("tjnm,tjnm->j", b, b)
    scale = (own_a[:, None] * own_b[None, :]).sqrt()
    return torch.where(scale > TINY * TINY, cross / scale, torch.nan)


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Cosine similarity (n,) of embeddings (n, d), -1 to 1; NaN for embeddings of nothing."""
    a, b = a.double(), b.double()
    size = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(size > TINY, ((a * b).sum(1) / size).clamp(-1, 1), torch.nan)


def gram_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How differently textured maps (n, C, h, w) are: 0 for alike, up to 2.

    Distance of the Gram matrices of their units over the places, divided by the mean of their
    sizes (after L. A. Gatys, A. S. Ecker and M. Bethge, "Image style transfer", CVPR 2016).
    """
    a, b = _texture(a), _texture(b)
    size = (a.flatten(1).norm(dim=1) + b.flatten(1).norm(dim=1)) / 2
    return torch.where(size > TINY, (a - b).flatten(1).norm(dim=1) / size, torch.nan)


def _texture(maps: torch.Tensor) -> torch.Tensor:
    flat = maps.flatten(2).double()
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def relative_change(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How far weights (units, n) moved: 0 for equal, about 1.4 for unrelated, 2 for opposite ones.

    The distance over the root of the mean of the squares of both lengths; 0 where both are nothing.
    """
    a, b = a.double(), b.double()
    size = ((a.square().sum(1) + b.square().sum(1)) / 2).sqrt()
    distance = (a - b).norm(dim=1)
    return torch.where(distance > 0, distance / size.clamp_min(TINY), 0.0)
