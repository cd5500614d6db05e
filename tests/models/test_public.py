"""The authors' checkpoints: the network of their code, to the figures that their code gives.

`public_vectors.json` holds figures measured with the authors' code (XingangPan/
Switchable-Whitening, `resnet.py`, sw_type 2, G = 16, T = 5) on a state filled as `value` does, in
float64, and a hash of its state's keys and shapes.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from swbench import models
from swbench.errors import OptionError, UnknownName
from swbench.models.public import load_public, public_key

VECTORS = json.loads((Path(__file__).parent / "public_vectors.json").read_text())
LAYERS = {"resnet50": 7, "resnet101": 15}


def value(key, shape):
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_cov"):
        m = rng.standard_normal(shape)
        array = m @ m.transpose(0, 2, 1) / shape[-1] + 0.1 * np.eye(shape[-1])
    elif key.endswith("running_var"):
        array = 0.5 + rng.random(shape)
    elif key.endswith(("running_mean", ".bias")):
        array = 0.1 * rng.standard_normal(shape)
    elif key.endswith(("sw_mean_weight", "sw_var_weight")):
        array = rng.standard_normal(shape)
    elif len(shape) == 4:
        array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif len(shape) == 2:
        array = rng.standard_normal(shape) / np.sqrt(shape[1])
    else:
        array = 0.5 + rng.random(shape)
    return torch.from_numpy(np.asarray(array, dtype=np.float64))


def shapes(model):
    """What the public code calls every entry of its state, and the entry's shape."""
    with torch.device("meta"):
        network = models.build(model, "swa", LAYERS[model], placement="public")
    whitened = {path for path, m in network.named_modules() if hasattr(m, "sw_mean_weight")}
    return {
        public_key(key) if key.rpartition(".")[0] in whitened else key: tuple(entry.shape)
        for key, entry in network.state_dict().items()
    }


def state(model="resnet50"):
    return {key: value(key, shape) for key, shape in shapes(model).items()}


def own(key):
    return key.replace("sw1.", "bn1.").replace("sw2.", "bn2.")


def images():
    return torch.from_numpy(np.random.default_rng(7).standard_normal((2, 3, 224, 224)))


def close(actual, expected, bound):
    return abs(float(actual) - expected) <= bound * abs(expected)


def assert_logits(y, figures, mode):
    norm = figures[f"{mode}_logits_norm"]
    first = torch.tensor(figures[f"{mode}_logits_first8"], dtype=torch.float64)
    assert close(y.norm(), norm, 1e-9)
    assert (y[:, :8] - first).norm() <= 1e-9 * norm


@pytest.mark.parametrize("model", VECTORS)
def test_keys_and_shapes_are_the_authors(model):
    keys = shapes(model)
    text = "\n".join(f"{key} {shape}" for key, shape in sorted(keys.items()))
    assert len(keys) == VECTORS[model]["keys"]
    assert hashlib.sha256(text.encode()).hexdigest() == VECTORS[model]["keys_sha256"]


def test_resnet50_gives_the_authors_figures_in_eval_and_training():
    figures = VECTORS["resnet50"]
    network = load_public(state())
    with torch.no_grad():
        assert_logits(network(images()), figures, "eval")
    y = network.train()(images())
    assert_logits(y.detach(), figures, "train")
    y.backward(torch.from_numpy(np.random.default_rng(8).standard_normal((2, 1000))))
    parameters, after = dict(network.named_parameters()), network.state_dict()
    for key, norm in figures["grad_norms"].items():
        assert close(parameters[own(key)].grad.norm(), norm, 1e-8), key
    for key, norm in figures["after_one_training_call"].items():
        assert close(after[own(key)].norm(), norm, 1e-12), key


def test_resnet101_gives_the_authors_logits():
    with torch.no_grad():
        assert_logits(load_public(state("resnet101"))(images()), VECTORS["resnet101"], "eval")


def test_a_file_nested_under_state_dict_with_a_prefix_loads(tmp_path):
    plain = state()
    path = tmp_path / "checkpoint.pth.tar"
    checkpoint = {"epoch": 100, "state_dict": {f"module.{key}": v for key, v in plain.items()}}
    torch.save(checkpoint, path)
    network = load_public(path)
    loaded = network.state_dict()
    assert all(torch.equal(loaded[own(key)], plain[key]) for key in plain)
    assert not network.training
    assert {m.solver for m in network.modules() if hasattr(m, "solver")} == {"newton5"}
    assert load_public(str(path)).fc.weight.dtype == torch.float64


def test_a_file_with_a_pickled_object_is_refused_in_one_line(tmp_path):
    path = tmp_path / "whole.pth"
    torch.save({"state_dict": state(), "model": nn.Linear(2, 2)}, path)
    with pytest.raises(OptionError, match=r"whole\.pth holds more than tensors") as raised:
        load_public(path)
    assert "\n" not in str(raised.value)


def without(key):
    return {name: v for name, v in state().items() if name != key}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (dict, "is no ResNet-50 or ResNet-101 with switchable whitening"),
        (lambda: {"a": 1}, "holds no state dict"),
        (lambda: without("layer3.1.sw2.running_cov"), r"lacks layer3\.1\.bn2\.running_cov"),
        (lambda: state() | {"layer3.2.sw2.weight2": torch.ones(2)}, "has in addition layer3"),
        (lambda: state() | {"layer1.1.sw2.weight": torch.ones(2)}, r"layer1.*\(2,\) instead of"),
        (lambda: state() | {"sw1.sw_mean_weight": torch.ones(5)}, "only sw_type 2 was published"),
        (lambda: state() | {"layer2.9.x": torch.ones(2)}, "has 3-10-6-3 blocks"),
        (lambda: {"features.conv0.weight": torch.ones(2)}, "keys are DenseNet"),
    ],
)
def test_a_state_of_another_network_is_refused_in_one_line(source, words):
    with pytest.raises(OptionError, match=words) as raised:
        load_public(source())
    assert "\n" not in str(raised.value)


def test_a_missing_file_or_invalid_checkpoint_is_refused_in_one_line(tmp_path):
    with pytest.raises(OptionError, match=r"nowhere\.pth cannot be read: No such file"):
        load_public(tmp_path / "nowhere.pth")
    for text in (b"", b"no checkpoint", b"PK\x03\x04 nor this"):
        (tmp_path / "x.pth").write_bytes(text)
        with pytest.raises(OptionError, match="no checkpoint") as raised:
            load_public(tmp_path / "x.pth")
        assert "\n" not in str(raised.value)


def test_the_public_placement_is_after_the_first_and_in_odd_blocks():
    assert models.placement("resnet50", 7, "public") == (1, 6, 15, 21, 27, 33, 39)
    network = models.build("resnet101", "swa", 15, placement="public")
    whitened = [path for path, m in network.named_modules() if hasattr(m, "sw_mean_weight")]
    assert whitened == [
        "bn1",
        "layer1.1.bn2",
        *(f"layer2.{block}.bn2" for block in (1, 3)),
        *(f"layer3.{block}.bn2" for block in range(1, 23, 2)),
    ]


def test_an_unknown_placement_is_refused():
    with pytest.raises(OptionError, match=r"no public placement of 14 layers.*'default' has 7 or"):
        models.placement("resnet50", 14, "public")
    with pytest.raises(OptionError, match="placement 'public' has 15"):
        models.build("resnet101", "swa", 15)
    with pytest.raises(UnknownName, match=r"'pubilc'.*Did you mean 'public'"):
        models.placement("resnet50", 7, "pubilc")
