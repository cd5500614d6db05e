"""Do `count_flops` and its peers agree on other people's networks, and is a network afterwards what
it was before? timm and torchvision models, in training and eval mode, by every rule.

python benchmarks/flops_agreement.py [MODEL …] [--out FILE.json] [--table FILE.md]

For each model and mode: the total by the rule `fvcore` against FlopCountAnalysis on the real model;
by `torch` against FlopCounterMode on the model moved to the meta device; by `paper`, which has no
peer, what it does not know. Before and after each count, and after one whose forward pass raises on
purpose, a fingerprint of the model is taken: every attribute of every module, values, versions and
addresses of tensors, gradients, flags, hooks, and the random states. Asked: equal or different for
a reason of the peer's that is listed, and no fingerprint changed.
"""

# ruff: noqa: T201  a script: it is run by hand, and what it prints is its result
import argparse
import contextlib
import copy
import importlib.util
import json
import logging
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swbench import count_flops
from swbench.flops.rule import Count

BATCH = 2  # in training mode, batch normalisation of a single pixel needs two samples
RULES = ("paper", "fvcore", "torch")
_TIMM = (
    "bat_resnext26ts beit_base_patch16_224 botnet26t_256 cait_xxs24_224 caformer_s18 "
    "coat_lite_tiny coat_tiny coatnet_0_rw_224 convit_tiny convnext_atto crossvit_9_240 "
    "cs3darknet_s davit_tiny deit_tiny_distilled_patch16_224 dla34 dpn48b eca_halonext26ts "
    "ecaresnet26t edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_b0 "
    "efficientvit_b0 efficientvit_m0 ese_vovnet19b_dw fasternet_t0 fastvit_t8 fbnetv3_b "
    "focalnet_tiny_srf gcresnet33ts gcvit_xxtiny ghostnet_100 gmixer_12_224 gmlp_ti16_224 "
    "hardcorenas_a hgnetv2_b0 hiera_tiny_224 hrnet_w18_small inception_next_atto "
    "lambda_resnet26t lcnet_050 legacy_seresnet18 levit_128s mambaout_femto mixer_s32_224 "
    "mobilenetv3_small_050 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny_jx pit_ti_224 "
    "poolformer_s12 pvt_v2_b0 regnetx_002 regnety_002 repghostnet_050 repvit_m0_9 "
    "resmlp_12_224 resnest14d resnet18 resnetv2_18 rexnet_100 selecsls42 sequencer2d_s "
    "shvit_s1 skresnet18 starnet_s050 swiftformer_xs swin_tiny_patch4_window7_224 "
    "tiny_vit_5m_224 twins_svt_small visformer_tiny vit_relpos_small_patch16_224 "
    "vit_tiny_patch16_224 xcit_nano_12_p16_224 "
)
_TORCHVISION = (
    "alexnet densenet121 googlenet inception_v3 mnasnet0_5 mobilenet_v3_small regnet_y_400mf "
    "resnet18 shufflenet_v2_x0_5 squeezenet1_1 swin_t vit_b_32 "
)
NAMES = [
    *(f"timm/{name}" for name in _TIMM.split()),
    *(f"torchvision/{name}" for name in _TORCHVISION.split()),
]


def prepare() -> None:
    """Make timm and torchvision importable beside a CPU build of torch, which cannot load
    torchvision's own operators: two of them must be declared, none is used here.
    """
    entries = importlib.util.find_spec("torchvision")
    with contextlib.suppress(OSError):
        torch.ops.load_library(str(Path(entries.origin).parent / "_C.so"))
        return
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):  # declared before
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )


def build(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """The model called `timm/NAME` or `torchvision/NAME`, and the shape of an image for it."""
    prepare()
    source, _, model = name.partition("/")
    if source == "timm":
        import timm

        net = timm.create_model(model)
        return net, tuple(net.default_cfg["input_size"])
    import torchvision

    side = 299 if model == "inception_v3" else 224
    return torchvision.models.get_model(model), (3, side, side)


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """All that a count must leave as it was."""
    entries: dict[str, Any] = {
        "random.python": random.getstate(),
        "random.numpy": str(np.random.get_state()),
        "random.torch": torch.get_rng_state().tolist(),
        "torch.grad": torch.is_grad_enabled(),
    }
    for path, module in model.named_modules():
        entries[f"{path}:class"] = type(module)
        for name, value in vars(module).items():
            entries[f"{path}:{name}"] = _print_of(value)
    return entries


def _print_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        has_gradient = value.is_leaf and value.grad is not None
        gradient = _print_of(value.grad) if has_gradient else None
        version = None if value.is_inference() else value._version
        place = (id(value), value.data_ptr(), version, str(value.device))
        data = value.detach().double()
        values = (float(data.sum()), float(data.abs().sum()))
        return (type(value), tuple(value.shape), value.requires_grad, gradient, place, values)
    if isinstance(value, dict):
        return (type(value), [(key, _print_of(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value), [_print_of(item) for item in value])
    if isinstance(value, nn.Module) or callable(value):
        return id(value)
    return value if isinstance(value, int | float | str | bool | None) else id(value)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The entries of a fingerprint that differ."""
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def by_fvcore(model: nn.Module, image: Tensor) -> int:
    """FlopCountAnalysis on the real model."""
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(model, image).tracer_warnings("none")
    return int(analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def by_torch(model: nn.Module, image: Tensor) -> int:
    """FlopCounterMode on the model moved to `meta`."""
    with FlopCounterMode(display=False) as counter:
        model.to("meta")(image.to("meta"))
    return counter.get_total_flops()


PEERS: dict[str, Callable[[nn.Module, Tensor], int]] = {"fvcore": by_fvcore, "torch": by_torch}


def compare(name: str) -> Iterator[dict[str, Any]]:
    """A line for each mode of the model called `name`."""
    torch.manual_seed(0)
    model, shape = build(name)
    image = torch.rand(BATCH, *shape)
    for mode in ("eval", "train"):
        line: dict[str, Any] = {"model": name, "mode": mode, "shape": (BATCH, *shape), "rules": {}}
        for rule in RULES:
            before, start = fingerprint(model), time.process_time()
            count = count_flops(model, shape, rule=rule, batch=BATCH, mode=mode)
            seconds = time.process_time() - start
            line["rules"][rule] = {
                "total": count.total,
                "seconds": seconds,
                "changed": changed(before, fingerprint(model)),
                **_judged(rule, count, model, image, mode),
            }
        line["changed_by_failure"] = _failure(model, shape, mode)
        yield line


def _judged(rule: str, count: Count, model: nn.Module, image: Tensor, mode: str) -> dict[str, Any]:
    """What the peer says, and whether that is a fault."""
    if rule not in PEERS:
        return {"peer": None, "verdict": count.remainder or "complete", "fault": False}
    try:
        peer = PEERS[rule](copy.deepcopy(model).train(mode == "train"), image)
    except Exception as problem:  # noqa: BLE001  whatever the peer raises is what it says
        text = str(problem).strip().splitlines()[0][:100]
        return {"peer": None, "verdict": f"peer fails: {text}", "fault": False}
    equal = peer == count.total
    differences = [f"{d.operation} ×{d.calls}: {d.counted} → {d.ours}" for d in count.differs]
    return {
        "peer": peer,
        "verdict": "equal" if equal else "DIFFERENT",
        "fault": not equal,
        "beside": differences,
    }


def _failure(model: nn.Module, shape: tuple[int, ...], mode: str) -> list[str]:
    """What a count changes whose forward pass raises half-way."""
    modules = list(model.modules())

    def fail(*_: Any) -> None:
        raise ValueError("on purpose")

    handle = modules[len(modules) // 2].register_forward_hook(fail)
    before = fingerprint(model)
    try:
        count_flops(model, shape, rule="torch", batch=BATCH, mode=mode)
    except ValueError as problem:
        entries = changed(before, fingerprint(model))
        return entries if str(problem) == "on purpose" else [f"raised {problem}"]
    else:
        # a module that the forward pass does not call
        return changed(before, fingerprint(model))
    finally:
        handle.remove()


def faults(lines: list[dict[str, Any]]) -> list[str]:
    """What falls short of what is asked."""
    entries = []
    for line in lines:
        place = f"{line['model']} {line['mode']}"
        for rule, item in line["rules"].items():
            if item["fault"]:
                entries.append(f"{place} {rule}: {item['total']}, the peer {item['peer']}")
            if item["changed"]:
                entries.append(f"{place} {rule} changed {', '.join(item['changed'][:3])}")
        if line["changed_by_failure"]:
            entries.append(f"{place} failing changed {', '.join(line['changed_by_failure'][:3])}")
    return entries


def table(lines: list[dict[str, Any]]) -> str:
    """The comparison in Markdown, a model a row: GFLOPs of the batch in eval mode, and of the
    training mode where they differ.
    """
    rows = [
        "| model | `fvcore` | FlopCountAnalysis | `torch` | FlopCounterMode | `paper` |",
        "|---|---:|---|---:|---|---|",
    ]
    models: dict[str, dict[str, Any]] = {}
    for line in lines:
        models.setdefault(line["model"], {})[line["mode"]] = line["rules"]
    for name, modes in models.items():
        cells = [name]
        for rule in ("fvcore", "torch"):
            totals = [f"{modes[mode][rule]['total'] / 1e9:.4f}" for mode in ("eval", "train")]
            verdicts = [modes[mode][rule]["verdict"] for mode in ("eval", "train")]
            cells += [" / ".join(dict.fromkeys(totals)), " / ".join(dict.fromkeys(verdicts))]
        paper = modes["eval"]["paper"]
        most = paper["verdict"].split(", ")
        text = ", ".join(most[:3]) + (f" and {len(most) - 3} more" if len(most) > 3 else "")
        is_complete = paper["verdict"] == "complete"
        shown = f"{paper['total'] / 1e9:.4f}"
        cells.append(shown if is_complete else f"≥ {shown}, {text}")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def summary(lines: list[dict[str, Any]]) -> str:
    """Counts of each verdict, and the median time of a count."""
    parts = [f"{len({line['model'] for line in lines})} models, {len(lines)} passes."]
    for rule in PEERS:
        verdicts = [line["rules"][rule]["verdict"] for line in lines]
        equal = verdicts.count("equal")
        fails = sum(v.startswith("peer fails") for v in verdicts)
        parts.append(
            f"{rule}: {equal} equal, {fails} where the peer fails, {len(lines) - equal - fails} "
            "different."
        )
    complete = sum(line["rules"]["paper"]["verdict"] == "complete" for line in lines)
    parts.append(f"paper: {complete} complete, {len(lines) - complete} with a remainder.")
    seconds = [item["seconds"] for line in lines for item in line["rules"].values()]
    parts.append(f"Median time of a count {statistics.median(seconds):.2f} s of a processor.")
    return " ".join(parts)


def main(argv: list[str] | None = None) -> int:
    """Compare, print, and return 1 where something falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="timm/NAME or torchvision/NAME")
    parser.add_argument("--out", type=Path, help="write every figure there as JSON")
    parser.add_argument("--table", type=Path, help="write the table there as Markdown")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    lines: list[dict[str, Any]] = []
    names = options.models or NAMES
    for number, name in enumerate(names, 1):
        for line in compare(name):
            lines.append(line)
            verdict_text = "; ".join(
                f"{rule} {item['verdict']}" for rule, item in line["rules"].items()
            )
            print(f"{number}/{len(names)} {name} {line['mode']}: {verdict_text}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(lines, indent=1) + "\n")
    if options.table:
        options.table.write_text(table(lines))
    print(summary(lines))
    entries = faults(lines)
    for fault in entries:
        print(f"falls short: {fault}")
    return 1 if entries else 0


if __name__ == "__main__":
    sys.exit(main())
