"""Copies of the suites whose warm-up is short: a GPU is warm in a fraction of a second."""

import re
from pathlib import Path

from gpu_session.steps import NO_RUN, ROOT, STEPS

WARM_UP = "warmup_s = 0.3\nwarmup_cap_s = 1.0\n"


def copies(folder: Path) -> dict[str, str]:
    """Suite -> the copy of it in `folder`, of each that a step on the GPU runs."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        words[1]
        for step in STEPS.values()
        for words in step.commands
        if words[0] == "bench.py" and words[1] not in NO_RUN and "cpu" not in words
    }
    paths = {}
    for name in sorted(names):
        text = (ROOT / "suites" / f"{name}.toml").read_text(encoding="utf-8")
        text = re.sub(r"^warmup_(cap_)?s *=.*\n", "", text, flags=re.M)
        if "[protocol]\n" in text:
            text = text.replace("[protocol]\n", f"[protocol]\n{WARM_UP}")
        else:
            text += f"\n[protocol]\n{WARM_UP}"
        path = folder / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        paths[name] = str(path)
    return paths
