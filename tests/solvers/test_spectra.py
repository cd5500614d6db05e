"""Named spectra have the eigenvalues their names say."""

import pytest
import torch

from swbench.errors import OptionError, UnknownName
from swbench.solvers import spectra


@pytest.mark.parametrize("group", [1, 4, 16, 33])
@pytest.mark.parametrize("name", spectra.NAMES)
def test_the_condition_number_is_the_promised_one(name, group):
    cov = spectra.covariances(name, 3, group)
    assert cov.shape == (3, group, group)
    assert cov.dtype == torch.float64
    assert torch.equal(cov, cov.mT)
    if group > 1:
        lam = torch.linalg.eigvalsh(cov)
        kappa = lam[:, -1] / lam[:, 0]
        assert (kappa <= spectra.kappa(name) * (1 + 1e-5)).all()
        assert (kappa >= spectra.kappa(name) * 0.09).all()


def test_two_eightfold_eigenvalues_are_eightfold():
    lam = torch.linalg.eigvalsh(spectra.covariances("two-eightfold", 1, 16))[0].tolist()
    assert lam[:8] == pytest.approx([1e-3] * 8)
    assert lam[8:] == pytest.approx([1.0] * 8)


def test_the_gap_is_relative():
    lam = torch.linalg.eigvalsh(spectra.covariances("gap=1e-4", 1, 8))[0]
    gaps = (lam[1::2] / lam[::2] - 1).tolist()
    assert gaps == pytest.approx([1e-4] * 4, rel=1e-6)


def test_the_same_seed_gives_the_same_matrices():
    first = spectra.covariances("kappa=1e3", 4, 8, seed=5)
    torch.randn(10)
    assert torch.equal(first, spectra.covariances("kappa=1e3", 4, 8, seed=5))
    assert not torch.equal(first, spectra.covariances("kappa=1e3", 4, 8, seed=6))


def test_an_unknown_spectrum_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'kappa=1e3'"):
        spectra.parse("kapa=1e3")


@pytest.mark.parametrize(
    ("name", "message"),
    [("kappa=big", "no number"), ("kappa=0.5", "must lie in"), ("kappa=nan", "must lie in")],
)
def test_a_wrong_value_is_refused(name, message):
    with pytest.raises(OptionError, match=message):
        spectra.parse(name)
