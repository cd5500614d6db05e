"""A missing or busy device is refused in one line with cause and remedy, before anything is
written.
"""

import pytest

from swbench.cli.app import start
from swbench.errors import DeviceError, OptionError
from swbench.run import devices

UUID = "11111111-2222-3333-4444-555555555555"
ONE_GPU = {
    "torch": "2.11.0+cu130",
    "cuda": "13.0",
    "warnings": [],
    "devices": [{"name": "H100", "uuid": UUID, "bytes": 1 << 36}],
}
NONE = {**ONE_GPU, "devices": []}
CPU_ONLY = {**NONE, "torch": "2.11.0+cpu", "cuda": None}


def gpu(**fields):
    return {"uuid": f"GPU-{UUID}", "name": "H100", "utilisation": 0.0, "processes": (), **fields}


GPUS = (gpu(),)


def check(requested, torch_report=ONE_GPU, gpus=GPUS, **options):
    queries = []
    pauses = []
    try:
        return devices.check(
            requested,
            query_torch=lambda: torch_report,
            gpu_usage=lambda: queries.append(1) or gpus,
            pause=pauses.append,
            **options,
        ), pauses
    finally:
        assert len(queries) <= 4


def test_default_devices_include_a_gpu_that_torch_can_use():
    assert check(None)[0] == ("cpu", "cuda")
    assert check(None, NONE)[0] == ("cpu",)
    assert check(None, CPU_ONLY)[0] == ("cpu",)


def test_cpu_is_accepted_without_querying_torch():
    def never():
        raise AssertionError

    assert devices.check(("cpu",), query_torch=never, gpu_usage=never) == ("cpu",)
    assert check(("cuda", "cpu", "cuda"))[0] == ("cuda", "cpu")
    assert check(("cuda:0",))[0] == ("cuda:0",)


@pytest.mark.parametrize(
    ("requested", "torch_report", "gpus", "expected"),
    [
        ("cuda", CPU_ONLY, (), "built without CUDA; install a CUDA build of torch"),
        ("cuda", NONE, (), "there is no GPU on this machine"),
        (
            "cuda",
            {**NONE, "warnings": ["The NVIDIA driver on your system is too old\n(found 11)"]},
            (gpu(),),
            "too old .found 11..; update the driver",
        ),
        ("cuda:3", ONE_GPU, (gpu(),), "there is one GPU, cuda:0 .H100.; use --device cuda$"),
        (
            "cuda:2",
            {**ONE_GPU, "devices": ONE_GPU["devices"] * 2},
            (gpu(),),
            "there are 2 GPUs, cuda:0 .H100., cuda:1",
        ),
    ],
)
def test_each_reason_is_one_line_with_a_remedy(
    monkeypatch, requested, torch_report, gpus, expected
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(DeviceError, match=expected) as caught:
        check((requested,), torch_report, gpus)
    assert str(caught.value).startswith(f"--device {requested}: ")
    assert "\n" not in str(caught.value)
    assert "use --device" in str(caught.value)


def test_message_names_cuda_visible_devices_where_it_hides_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES='-1' leaves none"):
        check(("cuda",), NONE)


@pytest.mark.parametrize(
    ("fields", "users"),
    [
        ({"processes": (4, 5)}, "2 other processes .pid 4, 5."),
        ({"utilisation": 0.7}, "something else at 70%"),
        ({"utilisation": 0.7, "used_bytes": 600 << 20}, "something else at 70%"),
    ],
)
def test_a_busy_gpu_is_refused_unless_allowed(fields, users):
    with pytest.raises(DeviceError, match=f"{users} on the H100; .* --allow-busy"):
        check(("cuda",), gpus=(gpu(**fields),))
    assert check(("cuda",), gpus=(gpu(**fields),), allow_busy=True)[0] == ("cuda",)


def test_gpu_with_high_utilisation_and_no_memory_in_use_is_accepted():
    """As one whose driver was just loaded."""
    idle = gpu(utilisation=1.0, used_bytes=4 << 20)
    assert check(("cuda",), gpus=(idle,)) == (("cuda",), [])


def test_allow_busy_reports_the_other_processes_in_one_line():
    lines = []
    assert check(("cuda",), gpus=(gpu(processes=(4,)),), allow_busy=True, notify=lines.append) == (
        ("cuda",),
        [],
    )
    assert lines == [
        (
            "--device cuda: 1 other process (pid 4) on the H100; measured beside it, "
            "as --allow-busy says"
        )
    ]
    check(("cuda",), allow_busy=True, notify=lines.append)
    assert len(lines) == 1


def test_busy_gpu_is_checked_again_after_a_pause():
    looks = iter([(gpu(utilisation=0.9),), (gpu(),)])
    pauses = []
    assert devices.check(
        ("cuda",), query_torch=lambda: ONE_GPU, gpu_usage=lambda: next(looks), pause=pauses.append
    ) == ("cuda",)
    assert pauses == [devices.BUSY_PAUSE_S]


def test_other_busy_gpu_is_ignored():
    assert check(("cuda",), gpus=(gpu(uuid="GPU-other", processes=(1,)), gpu()))[0] == ("cuda",)


def test_every_gpu_of_the_processes_is_checked():
    other = "22222222-2222-3333-4444-555555555555"
    torch_report = {
        **ONE_GPU,
        "devices": [*ONE_GPU["devices"], {**ONE_GPU["devices"][0], "uuid": other}],
    }
    gpus = (gpu(), gpu(uuid=f"GPU-{other}", processes=(4,)))
    assert check(("cuda",), torch_report, gpus)[0] == ("cuda",)
    with pytest.raises(DeviceError, match=r"--device cuda:1: 1 other process"):
        check(("cuda",), torch_report, gpus, processes=8)


def test_gpu_is_accepted_without_nvml():
    assert check(("cuda",), gpus=())[0] == ("cuda",)


def test_missing_gpu_exits_with_2_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(devices, "torch_devices", lambda: CPU_ONLY)
    assert start(["imagenet", "--device", "cuda", "--results", str(tmp_path / "results")]) == 2
    assert not (tmp_path / "results").exists()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "built without CUDA" in captured.err


def test_self_test_of_a_missing_gpu_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr(devices, "torch_devices", lambda: ONE_GPU)
    monkeypatch.setattr(devices.gpus, "usage", lambda: GPUS)
    for requested, expected in (
        ("cuda:3", "there is one GPU, cuda:0 (H100); use --device cuda"),
        ("gpu", "no device is called 'gpu'"),
    ):
        assert start(["selftest", "--device", requested]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert expected in captured.err


@pytest.mark.parametrize("device", [(), ("--device", "cuda")])
def test_the_self_test_on_a_shared_gpu_is_refused_unless_allowed(monkeypatch, capsys, device):
    from swbench import selftest

    checked = []
    monkeypatch.setattr(
        selftest,
        "selftest",
        lambda long, power, devices: (
            checked.append(devices) or [selftest.Outcome("a", selftest.PASSED, "1", "1")]
        ),
    )
    monkeypatch.setattr(devices, "BUSY_PAUSE_S", 0.0)
    monkeypatch.setattr(devices, "torch_devices", lambda: ONE_GPU)
    monkeypatch.setattr(devices.gpus, "usage", lambda: (gpu(processes=(4,)),))
    assert start(["selftest", *device]) == 2
    refused = capsys.readouterr()
    assert (refused.out, refused.err.count("\n"), checked) == ("", 1, [])
    assert "--allow-busy" in refused.err
    assert start(["selftest", *device, "--allow-busy"]) == 0
    assert "measured beside it" in capsys.readouterr().err
    assert checked == [("cuda",) if device else None]


def test_dry_run_shows_a_plan_for_a_missing_gpu(capsys):
    assert start(["imagenet", "--device", "cuda:3", "--dry-run"]) == 0
    assert "cuda:3 batch 32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dtypes", "requested", "features", "refused"),
    [
        (("amp-float16",), None, {"avx2", "avx512f"}, True),
        (("amp-float16",), ("cpu", "cuda"), {"asimd"}, True),
        (("amp-float16",), ("cuda",), {"avx2"}, False),
        (("amp-float16",), ("cpu",), {"avx512_fp16"}, False),
        (("amp-float16",), ("cpu",), {"asimd", "asimdhp"}, False),
        (("amp-float16",), ("cpu",), set(), False),
        (("amp-bfloat16", "float16"), ("cpu",), {"avx2"}, False),
        (None, None, {"avx2"}, False),
    ],
)
def test_autocast_to_a_dtype_that_the_cpu_lacks_is_refused(dtypes, requested, features, refused):
    def call():
        devices.check_autocast(dtypes, requested, lambda: frozenset(features))

    if not refused:
        call()
        return
    with pytest.raises(OptionError, match="no arithmetic in float16; choose --dtype amp-bfloat16"):
        call()


@pytest.mark.parametrize(("suite", "code"), [("imagenet", 2), ("stability", 0)])
def test_autocast_is_checked_for_timed_devices_only(suite, code, monkeypatch, capsys):
    monkeypatch.setattr(devices, "FLOAT16", frozenset())
    monkeypatch.setattr(devices.hardware, "features", lambda: frozenset({"avx2"}))
    words = ["run", suite, "--dtype", "amp-float16", "--device", "cpu", "--dry-run"]
    assert start(words) == code
    assert ("--dtype amp-float16: this CPU" in capsys.readouterr().err) == (code == 2)
