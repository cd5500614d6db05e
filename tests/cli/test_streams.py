"""Characters that a stream cannot encode are written in ASCII, and change no exit code."""

import os
import subprocess
import sys

import pytest

from swbench.cli.streams import stand_in

NARROW = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PROGRAM = [sys.executable, "-m", "swbench"]


def answer(workdir, *arguments, to=None, **environ):
    """What the command line writes into a pipe or, with `to`, into that file: code, stdout,
    stderr, as bytes.
    """
    out = open(to, "wb") if to else subprocess.PIPE  # noqa: SIM115  closed below
    done = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=workdir,
        env={**os.environ, **NARROW, **environ},
        stdout=out,
        stderr=subprocess.PIPE,
        check=False,
    )
    if to:
        out.close()
    return done.returncode, to.read_bytes() if to else done.stdout, done.stderr


@pytest.mark.parametrize("form", ["table", "csv", "latex", "json", "html"])
def test_a_table_is_shown_in_a_narrow_locale(results, tmp_path, form):
    words, workdir = ["show", "latest", "--format", form], results.parent
    wide = answer(workdir, *words, PYTHONUTF8="1")
    code, out, err = answer(workdir, *words)
    assert code == wide[0] == 3, "the run has failed cells"
    assert (out + err).isascii()
    assert b"Traceback" not in err
    assert len(out.splitlines()) == len(wide[1].splitlines())
    if form == "table":
        assert "≈" in wide[1].decode()
        assert out.decode() == stand_in(wide[1].decode())
        assert answer(workdir, *words, to=tmp_path / "shown") == (code, out, err)


def test_encodable_signs_are_not_replaced(results):
    code, out, err = answer(results.parent, "show", "latest", PYTHONIOENCODING="latin-1")
    assert (code, err) == (3, b"")
    assert "×" in out.decode("latin-1")
    assert "~" in out.decode("latin-1")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list"], ["compare", "é"]])
def test_output_of_click_is_ascii_in_a_narrow_locale(tmp_path, arguments):
    code, out, err = answer(tmp_path, *arguments)
    assert code == (2 if arguments[0] == "compare" else 0)
    assert (out + err).isascii()
    assert b"..." in out or "--help" not in arguments


def test_stand_in_replaces_signs_letters_and_digits():
    assert stand_in("Σ^(-1/2) ≈ 1 ± 2 µs, 3–4, κ·λ², é ĉ, ½, ‖W‖ᵀ, 10⁻⁵") == (
        "Sigma^(-1/2) ~ 1 +- 2 us, 3-4, kappa*lambda2, e c, 1/2, ||W||T, 10-5"
    )
    assert stand_in("漢 \udcff") == "\\u6f22 \\udcff"
