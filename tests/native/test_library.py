"""The library is found, chosen and left alone as its docstrings say."""

from pathlib import Path

import pytest
import torch

from swbench.native import library


@pytest.fixture
def fresh(monkeypatch):
    """`load` without its memory, which is restored afterwards."""
    yield library.load.__wrapped__
    library.select()


def test_the_library_can_be_switched_off(fresh, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "off")
    assert "SWBENCH_NATIVE=off" in fresh()


def test_an_unbuilt_library_is_reported_with_a_remedy(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    assert fresh() == f"the native kernels are not built: {library.REMEDY}"


def test_a_file_that_is_no_library_is_reported(fresh, monkeypatch, tmp_path):
    (tmp_path / "_kernels.so").write_bytes(b"not a library")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    assert "do not load" in fresh()


@pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))
class TestBuilt:
    def test_a_library_built_from_other_sources_is_not_used(self, fresh, monkeypatch, tmp_path):
        """Its functions may take other arguments: after an update without a build they would
        crash.
        """
        (tmp_path / "isa.c").write_text("int other;")
        assert library.sources.digest() != library.sources.digest(tmp_path)
        monkeypatch.setattr(library.sources.digest, "__defaults__", (tmp_path,))
        assert fresh() == f"the native kernels were built from other sources: {library.REMEDY}"

    def test_the_library_loads_without_sources(self, fresh, monkeypatch, tmp_path):
        monkeypatch.setattr(library.sources.digest, "__defaults__", (tmp_path,))
        assert not isinstance(fresh(), str)

    def test_an_unknown_instruction_set_is_reported(self, fresh, monkeypatch):
        monkeypatch.setenv(library.SWITCH, "v9")
        assert "no such instruction set" in fresh()

    def test_selecting_an_unknown_instruction_set_changes_nothing(self):
        assert library.select("v9") is None
        assert library.select("generic") == "generic"
        assert library.select() in ("v4", "v3", "generic")

    def test_the_openmp_runtime_is_torchs(self):
        assert library._runtime()


def test_torchs_runtime_is_preferred_to_that_of_another_package():
    own, other = "/env/torch/lib/libgomp-1.so.1", "/env/scikit_learn.libs/libgomp-2.so.1"
    assert library._openmp(["/env/numpy/core.so", other, own], Path("/env/torch")) == [own, other]
    assert library._openmp([other], Path("/env/torch")) == [other]


def test_reads_only_plain_float32_on_the_cpu():
    x = torch.zeros(2)
    assert library.reads(x)
    assert library.reads(torch.nn.Parameter(x))
    assert not library.reads(x.double())
    assert not library.reads(torch.zeros(2, device="meta"))
    with torch._subclasses.FakeTensorMode():
        assert not library.reads(torch.zeros(2))
