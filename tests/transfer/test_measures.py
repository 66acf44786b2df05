"""Likeness of answers, against computations of other shape."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from cnnvis_core.transfer.measures import (
    centred_gram,
    cka,
    cosine,
    gram_distance,
    relative_change,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def alignment(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(cka(centred_gram(a)[None, None], centred_gram(b)[None, None]))


def hsic(K: np.ndarray, L: np.ndarray) -> float:
    """The unbiased estimator as Song et al. (2012), equation 5, write it."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    first = np.trace(K @ L)
    second = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (one @ K @ L @ one)
    return float((first + second - third) / (n * (n - 3)))


@pytest.mark.parametrize("shift", [0.0, 50.0])
def test_alignment_is_that_of_the_paper(shift):
    a = noise(20, 6, 3, 3) + shift
    b = torch.cat([a.flatten(1)[:, :5] * 2, noise(20, 4, seed=1)], 1)
    K, L = ((x.flatten(1).double() @ x.flatten(1).double().T).numpy() for x in (a, b))
    expected = hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))
    assert alignment(a, b) == pytest.approx(expected, rel=1e-6)


def test_alignment_over_batches_is_the_ratio_of_means():
    a, b = noise(3, 16, 10), noise(3, 16, 10, seed=1)
    b = b + a
    grams = [torch.stack([centred_gram(x) for x in part])[:, None] for part in (a, b)]
    kernels = [[(x.double() @ x.double().T).numpy() for x in part] for part in (a, b)]
    cross = np.mean([hsic(K, L) for K, L in zip(*kernels, strict=True)])
    own = [np.mean([hsic(K, K) for K in part]) for part in kernels]
    assert float(cka(*grams)) == pytest.approx(cross / np.sqrt(own[0] * own[1]), rel=1e-6)


def test_alignment_is_one_for_rotated_answers_and_none_for_unrelated_ones():
    a = noise(64, 12)
    turn = torch.linalg.qr(noise(12, 12, seed=2))[0]
    assert alignment(a, 3 * a @ turn + 1) == pytest.approx(1, abs=1e-6)
    unrelated = [alignment(noise(64, 12, seed=s), noise(64, 12, seed=s + 100)) for s in range(40)]
    assert abs(np.mean(unrelated)) < 0.02
    assert np.isnan(alignment(a, torch.ones(64, 5)))


def test_cosine_is_that_of_scikit_learn():
    a, b = noise(7, 30), noise(7, 30, seed=1)
    np.testing.assert_allclose(
        cosine(a, b).numpy(), np.diag(cosine_similarity(a.numpy(), b.numpy())), atol=1e-6
    )
    assert torch.isnan(cosine(torch.zeros(1, 4), noise(1, 4))).all()


def test_gram_distance_is_that_of_sums_by_hand():
    a, b = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    for index in range(2):
        grams = []
        for maps in (a[index], b[index]):
            gram = np.zeros((3, 3))
            for i in range(3):
                for j in range(3):
                    gram[i, j] = float((maps[i] * maps[j]).sum()) / 20
            grams.append(gram)
        size = (np.linalg.norm(grams[0]) + np.linalg.norm(grams[1])) / 2
        expected = np.linalg.norm(grams[0] - grams[1]) / size
        assert float(gram_distance(a, b)[index]) == pytest.approx(expected, rel=1e-6)
    shuffled = a.flatten(2)[..., torch.randperm(20)].reshape(a.shape)
    assert float(gram_distance(a, shuffled).max()) < 1e-6  # texture knows no places


def test_weights_that_stay_that_turn_and_that_are_others():
    a = noise(4, 1000)
    b = a.clone()
    b[1] *= -1
    b[2] = noise(1, 1000, seed=5)
    b[3] *= 1.1
    found = relative_change(a, b)
    assert found[0] == 0
    assert found[1] == pytest.approx(2)
    assert found[2] == pytest.approx(2**0.5, abs=0.1)
    assert found[3] == pytest.approx(0.1 / np.sqrt((1 + 1.21) / 2), rel=1e-5)
    assert relative_change(torch.zeros(1, 3), torch.zeros(1, 3)) == 0
