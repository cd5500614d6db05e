"""The columns of a network table: their fixed order in CSV, and the panels of the formats for
people.
"""

from swbench.report.table import Column, Panel

SPANS = {"cpu": "CPU", "gpu": "GPU"}
PASSES = {"f": "F", "fb": "F+B"}
SLOTS = tuple((device, which) for device in SPANS for which in PASSES)


def _times() -> list[Column]:
    return [
        Column(f"{d}_{p}_s", f"{SPANS[d]} {PASSES[p]}, s", "seconds", SPANS[d], needed=True)
        for d, p in SLOTS
    ]


def _ratios() -> list[Column]:
    return [
        Column(
            f"ratio_{d}_{p}", f"{SPANS[d]} {PASSES[p]}", "ratio", SPANS[d], bounds=True, needed=True
        )
        for d, p in SLOTS
    ]


def _each(name: str, header: str, kind: str, bounds: bool = False) -> list[Column]:
    return [
        Column(
            name.format(d=d, p=p), header.format(d=SPANS[d], p=PASSES[p]), kind, SPANS[d], bounds
        )
        for d, p in SLOTS
    ]


def _each_device(name: str, header: str, kind: str = "count") -> list[Column]:
    return [Column(name.format(d=d), header.format(d=SPANS[d]), kind, SPANS[d]) for d in SPANS]


NETWORK_COLUMNS = (
    Column("model", "Network"),
    Column("norm", "Norm"),
    Column("layers", "Whitening", "count"),
    Column("solver", "Solver"),
    Column("cpu_batch", "CPU batch", "count"),
    Column("gpu_batch", "GPU batch", "count"),
    Column("gflops_paper", "GFLOPs", "gflops", needed=True),
    Column("gflops_fvcore", "fvcore", "gflops", needed=True),
    Column("gflops_torch", "torch", "gflops", needed=True),
    *_times(),
    Column("gpu_utilisation_percent", "GPU utilisation, %", "percent", "GPU"),
    Column("gpu_utilisation_samples", "NVML samples", "count", "GPU"),
    Column("gpu_busy_share", "GPU busy", "share", "GPU"),
    *_ratios(),
    Column("status", "Status"),
    Column("detail", "Detail"),
    Column("cpu_status", "CPU status", span="CPU"),
    Column("gpu_status", "GPU status", span="GPU"),
    *_each("verdict_{d}_{p}", "{d} {p}", "text"),
    *_each("ratio_undisturbed_{d}_{p}", "{d} {p}", "ratio", bounds=True),
    *_each("{d}_{p}_low_s", "{d} {p} low, s", "seconds"),
    *_each("{d}_{p}_high_s", "{d} {p} high, s", "seconds"),
    *_each("{d}_{p}_median_s", "{d} {p} median, s", "seconds"),
    *_each("{d}_{p}_std_s", "{d} {p} deviation, s", "seconds"),
    *_each("{d}_{p}_iterations", "{d} {p} rounds", "count"),
    *_each("{d}_{p}_replicates", "{d} {p} replicates", "count"),
    Column("paper_gflops", "paper", "gflops"),
    *_each("paper_{d}_{p}_s", "paper", "seconds"),
    *_each("paper_ratio_{d}_{p}", "paper", "ratio"),
    Column("gflops_solver", "solver term", "gflops"),
    Column("parameters", "Parameters, M", "millions"),
    Column("peak_activation_bytes", "Peak activations, MiB", "mebibytes"),
    Column("cpu_peak_bytes", "CPU peak, MiB", "mebibytes", "CPU"),
    Column("gpu_peak_bytes", "GPU peak, MiB", "mebibytes", "GPU"),
    Column("gpu_peak_reserved_bytes", "GPU reserved, MiB", "mebibytes", "GPU"),
    Column("gpu_fb_wall_s", "GPU F+B wall, s", "seconds", "GPU"),
    Column("gpu_fb_busy_s", "GPU F+B kernels, s", "seconds", "GPU"),
    Column("gpu_bound", "Bound by", span="GPU"),
    Column("gpu_power_w", "GPU power, W", "quantity", "GPU"),
    Column("gpu_energy_j", "Energy, J an iteration", "quantity", "GPU"),
    Column("gpu_sm_hz", "SM clock, MHz", "megahertz", "GPU"),
    Column("gpu_block_iterations", "Iterations a block", "count", "GPU"),
    Column("cited_miou_cityscapes_percent", "mIoU Cityscapes, % (cited)", "percent"),
    Column("cited_miou_ade20k_percent", "mIoU ADE20K, % (cited)", "percent"),
    Column("label", "Model"),
    Column("group_size", "G", "count"),
    Column("image", "Image"),
    Column("dtype", "dtype"),
    Column("layout", "Layout"),
    Column("cpu_threads", "CPU threads", "count"),
    Column("cpu_mode", "CPU mode"),
    Column("gpu_mode", "GPU mode"),
    Column("cpu_solver_chosen", "CPU solver"),
    Column("gpu_solver_chosen", "GPU solver"),
    Column("cpu_kernels_chosen", "CPU kernels"),
    Column("gpu_kernels_chosen", "GPU kernels"),
    *_each_device("{d}_processes", "{d} processes"),
    *_each_device("{d}_nodes", "{d} nodes"),
    *_each_device("{d}_compile_s", "{d} compile, s", "seconds"),
    Column("gpu_device", "GPU device"),
    Column("phase", "Phase"),
    Column("suite", "Suite"),
    Column("run", "Run"),
    Column("cpu_case", "CPU case"),
    Column("gpu_case", "GPU case"),
)
"""Every column, in CSV order, for every run. Add new ones directly before `suite` or after it,
because programs read the others by position.
"""


def panels(
    *,
    baseline: str,
    solver: bool,
    paper: bool,
    timed: bool,
    counted: bool,
    filled_columns: frozenset[str],
) -> tuple[Panel, ...]:
    """The panels of a table: seconds as in the supplement, ratios, operation counts, dispersion.
    `filled_columns` are the columns with a value in some row.
    """
    names = ("label", "layers", *(("solver",) if solver else ()))
    panels_shown = []
    if timed:
        prefixes = ("", "paper_") if paper else ("",)
        seconds = [f"{prefix}{d}_{p}_s" for d, p in SLOTS for prefix in prefixes]
        ratios = [f"{prefix}ratio_{d}_{p}" for d, p in SLOTS for prefix in prefixes]
        panels_shown.append(Panel("Seconds (mean)", (*names, "gflops_paper", *seconds, "status")))
        panels_shown.append(Panel(f"Ratio to {baseline} [interval]", (*names, *ratios)))
    if counted or not timed:
        wanted_columns = [
            "gflops_solver",
            "parameters",
            "peak_activation_bytes",
            "cited_miou_ade20k_percent",
            "cited_miou_cityscapes_percent",
        ]
        shown_columns = [name for name in wanted_columns if name in filled_columns]
        status = () if timed else ("status",)
        panels_shown.append(
            Panel(
                "GFLOPs an image, by the paper's rule (inferred), fvcore's and torch's",
                (
                    *names,
                    "gflops_paper",
                    *(("paper_gflops",) if paper else ()),
                    "gflops_fvcore",
                    "gflops_torch",
                    *shown_columns,
                    *status,
                ),
            )
        )
    if "gpu_fb_wall_s" in filled_columns:
        wanted_columns = [
            "gpu_fb_s",
            "gpu_fb_wall_s",
            "gpu_fb_busy_s",
            "gpu_busy_share",
            "gpu_bound",
            "gpu_block_iterations",
        ]
        panels_shown.append(
            Panel(
                "GPU: events, host and kernels",
                (*names, *(name for name in wanted_columns if name in filled_columns)),
            )
        )
    wanted_columns = [
        "gpu_utilisation_percent",
        "gpu_utilisation_samples",
        "gpu_power_w",
        "gpu_sm_hz",
        "gpu_energy_j",
    ]
    wanted_columns += ["cpu_peak_bytes", "gpu_peak_bytes", "gpu_peak_reserved_bytes"]
    if shown_columns := [name for name in wanted_columns if name in filled_columns]:
        panels_shown.append(Panel("Device", (*names, *shown_columns)))
    if compiled := [f"{d}_compile_s" for d in SPANS if f"{d}_compile_s" in filled_columns]:
        panels_shown.append(
            Panel(
                ("torch.compile: seconds until both passes were compiled, in no time above"),
                (*names, *compiled),
            )
        )
    for d in SPANS:
        if f"{d}_f_s" in filled_columns:
            statistics_columns = [
                f"{d}_{p}_{what}_s" for p in PASSES for what in ("low", "high", "median", "std")
            ]
            panels_shown.append(
                Panel(
                    f"{SPANS[d]} seconds: interval of the mean, median, deviation",
                    (*names, *statistics_columns),
                    detail=True,
                )
            )
    if any(f"ratio_undisturbed_{d}_{p}" in filled_columns for d, p in SLOTS):
        panels_shown.append(
            Panel(
                f"Ratio to {baseline} without disturbed rounds",
                (*names, *(f"ratio_undisturbed_{d}_{p}" for d, p in SLOTS)),
                detail=True,
            )
        )
    return tuple(panels_shown)
