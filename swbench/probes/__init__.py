"""Workloads by the kind of their case: what a worker builds, calls and reads out."""

from swbench.registry import Registry

WORKLOADS = Registry(
    "kind of case",
    {
        "network": "swbench.probes.network:NetworkWorkload",
        "solver": "swbench.probes.roots:solver_workload",
        "stability": "swbench.probes.stability:stability_workload",
    },
)
