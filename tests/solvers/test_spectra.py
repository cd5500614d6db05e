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


def test_two_eightfold_has_two_eightfold_eigenvalues():
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


def test_an_unknown_spectrum_suggests_the_nearest_name():
    with pytest.raises(UnknownName, match="Did you mean 'kappa=1e3'"):
        spectra.parse("kapa=1e3")


@pytest.mark.parametrize(
    ("name", "message"),
    [("kappa=big", "no number"), ("kappa=0.5", "must lie in"), ("kappa=nan", "must lie in")],
)
def test_a_wrong_value_is_refused(name, message):
    with pytest.raises(OptionError, match=message):
        spectra.parse(name)


def test_power_law_has_a_constant_slope():
    lam = torch.linalg.eigvalsh(spectra.covariances("power-law=1e3", 1, 16))[0].flip(0).log()
    slopes = lam.diff() / torch.arange(1, 17).double().log().diff()
    assert slopes.tolist() == pytest.approx([slopes[0].item()] * 15, rel=1e-6)


def test_dominated_has_one_large_eigenvalue():
    lam = torch.linalg.eigvalsh(spectra.covariances("dominated=1e4", 2, 16))
    assert lam[:, -1].tolist() == pytest.approx([1.0] * 2)
    assert (lam[:, :-1] <= 3.001e-4).all()


def test_recorded_spectra_are_used_in_turn_at_any_size():
    records = list(spectra.recorded().values())
    assert len(records) == 6
    assert all(
        record[0] == 1 and list(record) == sorted(record, reverse=True) for record in records
    )
    generator = torch.Generator().manual_seed(0)
    lam = spectra.eigenvalues("gradients=1e-6", 7, len(records[0]), generator)
    assert torch.equal(lam[0], lam[6])
    assert (lam[1] - 1e-6).tolist() == pytest.approx(list(records[1]), rel=1e-6, abs=1e-15)
    for group in (3, 1024):
        other = spectra.eigenvalues("gradients", 1, group, generator)[0]
        assert other[0] == 1 + 1e-6
        assert other[-1].item() == pytest.approx(1e-6, rel=1e-3)
