"""`run --model`: a user's own network is measured without a suite. Processes import it only because
the command line names it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swbench import models, plugins, store
from swbench.case import Case
from swbench.models.named import named
from swbench.probes.flops import flops_measurements

ROOT = Path(__file__).resolve().parents[2]
SUPPLEMENT = "every=6,!*downsample*,!layer4.*"
NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3, stride=2)
        )
        self.norm, self.head = nn.BatchNorm2d(24), nn.Linear(24, 5)

    def forward(self, x):
        return {"logits": self.head(self.norm(self.body(x)).mean((2, 3)))}

def whole():
    body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten())
    return body.append(nn.Linear(16 * 36, 2))

def plain():
    return nn.Conv2d(3, 4, 1)
"""


def bench(folder, *arguments):
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(folder / "code")},
    )
    assert "Traceback" not in done.stderr
    return done


def folder_with_nets(path):
    (path / "code").mkdir()
    (path / "code" / "nets_of_a_test.py").write_text(NETS)
    return path


RUN = ["run", "--model", "nets_of_a_test:Net", "--norm", "bn,bw,in", "--where", "body.*"]
RUN += ["--image", "8,8x12", "--batch", "2", "--device", "cpu", "--threads", "1"]
RUN += ["--quick", "--iterations", "2", "--replicates", "1"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = folder_with_nets(tmp_path_factory.mktemp("own"))
    done = bench(folder, *RUN)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def stored(folder):
    return store.load(store.find(folder / "results", "latest"))


def test_a_network_is_measured_with_each_norm_in_each_image_size(measured):
    folder, out = measured
    run = stored(folder)
    assert run.complete
    assert {result.status for result in run.results} == {"ok"}
    assert {case.image for group in run.plan.groups for case in group.cases} == {(8, 8), (8, 12)}
    assert [case.norm for case in run.plan.groups[0].cases] == ["bn", "bn", "bw", "in"]
    assert {case.where for case in run.plan.groups[0].cases[2:]} == {"body.*"}
    assert "nets_of_a_test:Net-BW" in out


def test_run_stores_the_network_and_a_command_that_repeats_it(measured):
    folder, _ = measured
    path = store.find(folder / "results", "latest")
    header = json.loads((path / "run.json").read_text())
    assert len(header["code"]["model nets_of_a_test:Net"]) == 12
    assert header["options"]["where"] == "body.*"
    assert header["command"] == " ".join(
        ["python", "bench.py", *("'body.*'" if word == "body.*" else word for word in RUN)]
    )
    assert "norms replaced: body.1\n" in (path / "suite.toml").read_text()


def test_newest_run_is_resumed_by_the_same_command(measured):
    folder, _ = measured
    done = bench(folder, *RUN, "--resume")
    assert done.returncode == 0
    assert "with these options is complete" in done.stderr


def test_show_imports_no_network(measured):
    folder, out = measured
    code = folder / "code" / "nets_of_a_test.py"
    code.rename(folder / "gone.py")
    try:
        assert bench(folder, "show", "latest").stdout == out
        # and what would have to build the network says so
        predicted = bench(folder, "predict", "latest")
        assert "no stored run imports anything" in predicted.stderr or predicted.returncode == 0
    finally:
        (folder / "gone.py").rename(code)


def test_suite_that_names_a_network_to_import_is_refused(tmp_path):
    folder = folder_with_nets(tmp_path)
    (folder / "own.toml").write_text(
        'schema = 1\nkind = "network"\n[network]\nmodel = "nets_of_a_test:Net"\n'
        'image = [[8, 8]]\n[[rows]]\nnorm = "bn"\n'
    )
    done = bench(folder, "run", "own.toml")
    assert done.returncode == 2
    assert "network.model: 'nets_of_a_test:Net' is not known" in done.stderr


def test_suite_may_choose_the_public_placement(tmp_path):
    from swbench import suite

    (tmp_path / "public.toml").write_text(
        'schema = 1\nkind = "network"\n[network]\nmodel = "resnet50"\nplacement = "public"\n'
        'image = [[224, 224]]\n[[rows]]\nnorm = "bn"\n[[rows]]\nnorm = "swa"\nlayers = 7\n'
        '[[rows]]\nnorm = "swa"\nlayers = 7\nplacement = "default"\n'
    )
    plan = suite.expand(suite.load(tmp_path / "public.toml"))
    cases = plan.groups[0].cases
    assert [case.placement for case in cases] == ["default", "default", "public", "default"]
    assert cases[2].key != cases[3].key
    assert plan.groups[0].rows[2:] == ("ResNet50-SW^a (public placement)", "ResNet50-SW^a")


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setattr(plugins, "_models", {})
    plugins.load([named("timm:resnet50")])


@pytest.mark.parametrize("norm", ["bn", "swa"])
def test_timms_resnet50_at_the_supplements_sites_is_the_imagenet_suites_network(norm, allowed):
    layers = 0 if norm == "bn" else 7
    ours = Case(model="resnet50", norm=norm, layers=layers, solver="eigh")
    theirs = Case(
        model="timm:resnet50",
        norm=norm,
        layers=layers,
        solver="eigh",
        where=None if norm == "bn" else SUPPLEMENT,
    )
    counted = [
        {m.metric: m.samples for m in flops_measurements(case)[0]} for case in (ours, theirs)
    ]
    for metric in ("flops_paper", "flops_torch", "flops_solver", "parameters"):
        assert counted[0][metric] == counted[1][metric], metric
    network = models.build("resnet50", norm, layers).double()
    other = models.build("timm:resnet50", norm, layers, where=theirs.where).double()
    other.load_state_dict(network.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    # the suite's layers have the paper's momentum, timm's norms their own: statistics then differ
    for mode in (False, True):
        a, b = network.train(mode)(x), other.train(mode)(x)
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10 * a.abs().max().item())


NO_NORM = "nets_of_a_test:plain"
NET = "nets_of_a_test:Net"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "timm:resnet5O"], "timm has no model 'resnet5O'. Did you mean 'resnet50'"),
        (["--model", "resnet5O"], "no model is called 'resnet5O'. Did you mean 'resnet50'"),
        (["--model", "nets_of_a_test:Nett"], "no callable 'Nett'. Did you mean 'Net'"),
        (["--model", NET, "--where", "bdy.*"], "--where bdy.* matches no norm of nets_of_a_test"),
        (["--model", NET, "--norm", "swa"], "divide the 24 channels of norm in nets_of_a_test:Net"),
        (["--model", NO_NORM], "plain has no batch normalisation to replace"),
        (
            ["--model", "nets_of_a_test:whole", "--image", "9"],
            "a call with 1 image of 9x9 fails: RuntimeError: ",
        ),
        (["--model", NET, "--norm", "swaa"], "Did you mean 'swa'"),
        (["--model", NET, "--image", "wide"], "'wide' must be pixels such as 224 or 224x160"),
        (["imagenet", "--model", NET], "--model stands for a suite; leave imagenet out"),
        (["imagenet", "--where", "1"], "--where needs --model"),
        (["imagenet", "--norm", "bw"], "--norm needs --model"),
        ([], "Missing argument 'SUITE…'"),
    ],
)
def test_invalid_network_is_refused_in_one_line(arguments, words, tmp_path, monkeypatch, capfd):
    from swbench.cli.app import start

    folder_with_nets(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.chdir(tmp_path)
    assert start(["run", *arguments, "--device", "cpu", "--results", str(tmp_path / "r")]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "r").exists(), "nothing is left of a run that was refused"


def test_check_and_list_show_the_norms_of_any_network(tmp_path, monkeypatch, capfd):
    from swbench.cli.app import start

    folder_with_nets(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    for command in (["check"], ["list", "models", "-v"]):
        assert start([*command, "--model", NET, "--image", "8x12", "--where", "1,norm"]) == 0
        lines = capfd.readouterr().out.splitlines()
        assert lines[0].endswith(
            "1 of them not divided by 16, 1 matrices of 16x16 an image of 8x12"
        )
        assert [line.split() for line in lines[2:]] == [
            ["1", "0", "0", "16", "6x10", "1", "body.1"],
            ["2", "0", "0", "24", "2x4", "-", "norm"],
        ]
    assert start(["check", "cifar"]) == 0
    assert "resnet20: 5 whitened convolutions" in capfd.readouterr().out
