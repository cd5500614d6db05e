"""The style transfer of Fig. 1: losses that fall, Gram matrices, features, the same pictures to the
bit, and a line for every image or file that is wrong.
"""

import csv
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.style_transfer import features, images, training
from benchmarks.style_transfer.__main__ import main
from swbench.errors import OptionError

SIDE = 44
"""The smallest multiple of 4 that the network's reflection padding of 40 pixels takes."""


@pytest.fixture
def stylize(tmp_path, capsys):
    """`stylize("--norms", …)` -> exit code and the lines of stderr of a tiny run into out/."""

    def stylize(*arguments, out="out"):
        tiny = ["--size", str(SIDE), "--steps", "2", "--batch", "1", "-o", str(tmp_path / out)]
        code = main([*tiny, *map(str, arguments)])
        return code, capsys.readouterr().err.splitlines()

    before = torch.are_deterministic_algorithms_enabled()
    yield stylize
    torch.use_deterministic_algorithms(before)


def refused(captured, *words):
    """Whether `captured` is one line that holds every one of `words`."""
    code, lines = captured
    return code == 2 and len(lines) == 1 and all(word in lines[0] for word in words)


@pytest.mark.parametrize("norm", ["bn", "in", "bw", "iw", "swa"])
def test_the_loss_falls(norm):
    style, extractor = images.texture(SIDE), features.RandomFeatures(0)
    photographs = [images.read(path, SIDE) for path in images.samples()[:2]]
    settings = training.Settings(size=SIDE, steps=6, batch=2)
    totals = []
    training.train(
        norm,
        photographs,
        training.Losses(extractor, style),
        settings,
        lambda step, loss: totals.append(loss),
    )
    assert len(totals) == 6
    assert max(totals[-2:]) < 0.9 * totals[0]


def test_every_norm_starts_from_the_same_convolutions():
    def convolutions(norm):
        return [
            module.weight
            for module in training.build(norm, 3).modules()
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        ]

    baseline = convolutions("bn")
    assert len(baseline) == 16
    for norm in ("in", "bw", "iw", "swa"):
        assert all(map(torch.equal, baseline, convolutions(norm)))


def test_gram_matrices_are_those_of_a_float64_loop():
    x = torch.randn(2, 3, 4, 5)
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    for image in range(2):
        for index in range(3):
            for other in range(3):
                for row in range(4):
                    for column in range(5):
                        expected[image, index, other] += (
                            x[image, index, row, column].double()
                            * x[image, other, row, column].double()
                        )
    torch.testing.assert_close(features.gram(x).double(), expected / 60, rtol=1e-5, atol=1e-7)


def test_losses_are_zero_for_equal_images_and_one_without_features():
    style = images.texture(SIDE)
    losses = training.Losses(features.RandomFeatures(0), style)
    content, style_loss, variation = losses(style[None], style[None])
    assert (content.item(), style_loss.item()) == (0, pytest.approx(0, abs=1e-10))
    assert variation > 0
    grey = torch.full_like(style, 0.5)[None]
    assert losses(grey, style[None])[0].item() == pytest.approx(1)
    assert losses(grey, style[None])[2].item() == 0


def test_style_loss_is_the_relative_change_of_each_layer():
    class Doubling(nn.Module):
        def forward(self, x):
            return [x, x], x

    losses = training.Losses(Doubling(), torch.ones(3, 4, 4))
    assert losses(torch.full((1, 3, 4, 4), 2.0), torch.ones(1, 3, 4, 4))[0].item() == 1
    assert losses(torch.full((1, 3, 4, 4), 2.0), torch.ones(1, 3, 4, 4))[1].item() == 9


@pytest.fixture(scope="module")
def state():
    """A made-up VGG-16 in torchvision's layout, with a part of its classifier."""
    generator = torch.Generator().manual_seed(1)
    made = {
        key: torch.randn(shape, generator=generator) * (2 / np.prod(shape[1:] or (200,))) ** 0.5
        for key, shape in features.VGG16_SHAPES.items()
    }
    return {**made, "classifier.6.bias": torch.zeros(1000)}


def test_the_shapes_are_those_of_torchvisions_vgg16():
    shapes = features.VGG16_SHAPES
    indices = sorted({int(key.split(".")[1]) for key in shapes})
    assert indices == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert shapes["features.10.weight"] == (256, 128, 3, 3)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 14_714_688


def test_vgg_features_equal_those_of_its_single_layers(state, tmp_path):
    torch.save(state, tmp_path / "vgg16.pth")
    extractor = features.vgg16(tmp_path / "vgg16.pth")
    x = torch.rand(1, 3, SIDE, SIDE)
    style, content = extractor(x)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    y = (x - mean) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    expected = []
    for index in (0, 2, None, 5, 7, None, 10, 12, 14, None, 17, 19, 21):
        if index is None:
            expected.append(y)
            y = nn.functional.max_pool2d(y, 2)
        else:
            weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
            y = nn.functional.conv2d(y, weight, bias, padding=1).relu()
    for actual, value in zip(style, [*expected, y], strict=True):
        torch.testing.assert_close(actual, value)
    assert content is style[2]
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_run_with_vgg_features_records_it(state, tmp_path, stylize):
    torch.save(state, tmp_path / "vgg16.pth")
    code, lines = stylize("--norms", "in", "--features", tmp_path / "vgg16.pth")
    assert code == 0
    assert "VGG-16 features" in lines[0]
    assert (tmp_path / "out" / "results.csv").read_text().count("VGG-16 features") == 1


class Unwelcome:
    """An object that weights_only does not unpickle."""


WRONG = {
    "a pickled object": lambda path, state: path.write_bytes(pickle.dumps(Unwelcome())),
    "an object saved by torch": lambda path, state: torch.save(Unwelcome(), path),
    "text": lambda path, state: path.write_text("features.0.weight"),
    "nothing": lambda path, state: path.write_bytes(b""),
    "a list": lambda path, state: torch.save([torch.zeros(3)], path),
    "another network": lambda path, state: torch.save({"conv1.weight": torch.zeros(3)}, path),
    "another shape": lambda path, state: torch.save(
        {**state, "features.0.weight": torch.zeros(64, 1, 3, 3)}, path
    ),
    "a number missing": lambda path, state: torch.save(
        {**state, "features.0.bias": torch.full((64,), torch.nan)}, path
    ),
    "integers": lambda path, state: torch.save(
        {**state, "features.0.bias": torch.zeros(64, dtype=torch.long)}, path
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_another_features_file_is_refused_in_one_line(kind, state, tmp_path):
    path = tmp_path / "vgg.pth"
    WRONG[kind](path, {key: value for key, value in state.items() if key < "features.1"})
    with pytest.raises(OptionError, match=r"save torchvision\.models\.vgg16") as refusal:
        features.vgg16(path)
    assert "\n" not in str(refusal.value)
    assert "vgg.pth" in str(refusal.value)


def test_a_truncated_or_missing_features_file_is_refused_in_one_line(state, tmp_path, stylize):
    path = tmp_path / "vgg.pth"
    assert refused(stylize("--features", path), "no features file", "vgg.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    path.write_bytes(path.read_bytes()[:500])
    assert refused(stylize("--features", path), "vgg.pth", "save torchvision")


def picture(mode, size=(60, 50), colour=None):
    if colour is not None:
        return Image.new(mode, size, colour)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_transparent_pixels_become_white(tmp_path):
    picture("RGBA", colour=(255, 0, 0, 0)).save(tmp_path / "clear.png")
    picture("RGBA", colour=(255, 0, 0, 255)).save(tmp_path / "solid.png")
    assert (images.read(tmp_path / "clear.png", SIDE) == 1).all()
    solid = images.read(tmp_path / "solid.png", SIDE)
    assert (solid[0] == 1).all()
    assert (solid[1:] == 0).all()


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "CMYK", "RGBA"])
def test_images_of_every_8_bit_mode_are_read_as_rgb(mode, tmp_path):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    picture(mode).save(path)
    read = images.read(path, SIDE)
    assert read.shape == (3, 44, 53)
    assert 0 <= read.min() < read.max() <= 1
    if mode in ("L", "1", "LA"):
        assert torch.equal(read[0], read[1])


def test_image_is_rotated_by_its_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: a quarter turn
    picture("RGB").save(tmp_path / "turned.jpg", exif=exif)
    assert images.read(tmp_path / "turned.jpg", SIDE).shape == (3, 53, 44)


def test_very_long_image_is_cropped(tmp_path):
    picture("RGB", (5000, 10)).save(tmp_path / "long.png")
    assert images.read(tmp_path / "long.png", SIDE).shape == (3, 44, 88)
    picture("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert images.read(tmp_path / "dot.png", SIDE).shape == (3, 44, 44)


def truncated(path):
    picture("RGB", (200, 200)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:4000])


BAD = {
    "missing": (lambda path: None, "no image"),
    "folder": (lambda path: path.mkdir(), "cannot be read"),
    "text": (lambda path: path.write_text("no picture"), "no image that Pillow can read"),
    "empty": (lambda path: path.write_bytes(b""), "no image that Pillow can read"),
    "truncated": (truncated, "truncated"),
    "16 bits": (
        lambda path: Image.fromarray(np.zeros((50, 50), np.uint16)).save(path, "PNG"),
        "convert it to 8 bits",
    ),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", [(), ("--style",)], ids=["content", "style"])
def test_invalid_image_is_refused_in_one_line(kind, place, tmp_path, stylize):
    make, words = BAD[kind]
    make(tmp_path / "bad.jpg")
    assert refused(stylize(*place, tmp_path / "bad.jpg"), words, "bad.jpg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--norms", "bn,batchnorm"], ["no norm is called 'batchnorm'", "Known: bn"]),
        (["--norms", ""], ["no norm is called ''"]),
        (["--size", "46"], ["--size 46 is no multiple of 4", "nearest"]),
        (["--size", "40"], ["--size 40", "44"]),
        (["--size", "1000000"], ["--size 1000000", "4096 is the most"]),
        (["--unknown\n"], ["--unknown\\n"]),
        (["--size", "large"], ["--size", "--help"]),
        (["--steps", "0"], ["--steps 0", "1 is the least"]),
        (["--batch", "0"], ["--batch 0"]),
        (["--seed", "-1"], ["--seed -1"]),
        (["--learning-rate", "nan"], ["--learning-rate", "nan"]),
        (["--style-weight", "-1"], ["--style-weight", "-1"]),
        (["--unknown"], ["--unknown", "--help"]),
        (["--learning-rate", "1e30", "--norms", "bn"], ["bn: the loss is", "try --learning-rate"]),
    ],
)
def test_invalid_option_is_refused_in_one_line(arguments, words, stylize):
    code, lines = stylize(*arguments)
    assert refused((code, lines[-1:]), *words)
    assert len([line for line in lines if line.startswith("error")]) == 1


def test_ctrl_c_is_one_line(stylize, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stop)
    code, lines = stylize("--norms", "bn")
    assert (code, lines[1:]) == (130, ["stopped; the same command takes the run up again"])


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, stylize):
    (tmp_path / "out").write_text("a file")
    assert refused(stylize(), "out cannot be written", "-o")


def test_equal_seeds_give_equal_pictures_and_a_stopped_run_resumes(tmp_path, stylize):
    def written(folder):
        return {path.name: path.read_bytes() for path in (tmp_path / folder).glob("*-*.png")} | {
            "losses": (tmp_path / folder / "losses.csv").read_bytes()
        }

    arguments = ("--norms", "bn,swa")
    assert stylize(*arguments, out="one")[0] == stylize(*arguments, out="two")[0] == 0
    first = written("one")
    assert len(first) == 3 * 2 + 1
    assert first == written("two")
    assert stylize(*arguments, "--seed", "1", out="three")[0] == 0
    assert first != written("three")

    modified = (tmp_path / "two" / "bn.json").stat().st_mtime_ns
    (tmp_path / "two" / "swa.json").unlink()
    (tmp_path / "two" / "1-china-swa.png").unlink()
    code, lines = stylize(*arguments, out="two")
    assert code == 0
    assert not any("bn step" in line for line in lines)
    assert any("swa step 2/2" in line for line in lines)
    assert (tmp_path / "two" / "bn.json").stat().st_mtime_ns == modified
    assert first == written("two")

    assert refused(stylize(*arguments, "--steps", "3", out="two"), "other settings (steps)", "-o")
    (tmp_path / "two" / "run.json").write_text("{")
    assert refused(stylize(*arguments, out="two"), "run.json is damaged")

    with (tmp_path / "one" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["norm"] for row in rows] == ["bn", "swa"]
    assert {row["image"] for row in rows} == {"3-grace_hopper"}
    assert all(float(row[key]) > 0 for row in rows for key in ("content_loss", "seconds_a_step"))
    with Image.open(tmp_path / "one" / "grid.png") as grid:
        assert grid.width > grid.height


def test_samples_without_scikit_learn_are_one_line(stylize, monkeypatch):
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None)
    assert refused(stylize(), "need sklearn", "pip install scikit-learn")


def test_validation_image_is_not_trained_on_and_is_named_beside_the_samples(tmp_path, stylize):
    picture("LA").save(tmp_path / "$mine$.png")
    code, lines = stylize("--norms", "in", tmp_path / "$mine$.png")
    assert code == 0
    assert "4-$mine$ is kept out of training" in lines[0]
    assert (tmp_path / "out" / "4-$mine$-in.png").exists()
