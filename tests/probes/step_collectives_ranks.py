"""One of two gloo ranks that report the collectives of a real training step of each case: `python
step_collectives_ranks.py RANK STORE`.
"""

import json
import math
import sys
from dataclasses import replace

import torch
from torch import distributed as dist

from swbench.case import Case
from swbench.probes.network import NetworkWorkload

SMALL = Case(model="resnet20", classes=10, image=(32, 32), batch=4, world=2)
WHITE = replace(SMALL, layers=5, solver="eigh")
CASES = {
    "bn": SMALL,
    "swb": replace(WHITE, norm="swb"),
    "iw": replace(WHITE, norm="iw"),
    "bfloat16": replace(WHITE, norm="bw", dtype="bfloat16"),
    "many buckets": replace(WHITE, model="resnet50", norm="swa", layers=7, classes=1000),
}
_SIZES = {"float": 4, "c10::BFloat16": 2}


def collectives(case):
    """[kind, bytes] of each collective of one step, as torch's profiler records them."""
    workload = NetworkWorkload(case)
    for _ in range(2):  # in the second step the ranks agree on buckets
        workload.call()
    with torch.profiler.profile(record_shapes=True, acc_events=True) as profiler:
        workload.call()
    return [
        [
            event.name().removeprefix("gloo:"),
            sum(
                math.prod(shape) * _SIZES[dtype]
                for shape, dtype in zip(event.shapes(), event.dtypes(), strict=False)
                if shape
            ),
        ]
        for event in profiler.profiler.kineto_results.events()
        if event.name().startswith("gloo:")
    ]


if __name__ == "__main__":
    rank, store = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    json.dump({name: collectives(case) for name, case in CASES.items()}, sys.stdout)
