"""The process that profiles: it reads a request from standard input, and writes the profile or an
error to a file.
"""

import json
import sys
from pathlib import Path

from swbench import plugins
from swbench.case import case_from_json


def main() -> None:
    """Serve one request: `{"case", "iterations", "trace", "out", "plugins"}`. The answer holds
    `profile`, or `status` and `detail`.
    """
    request = json.load(sys.stdin)
    Path(request["out"]).write_text(json.dumps(answer(request)), encoding="utf-8")


def answer(request: dict) -> dict:
    """The answer for the file `out`. Mistakes of the user and lack of memory are answers too."""
    import torch

    from swbench.errors import SwbenchError
    from swbench.probes.workload import Unsupported
    from swbench.profile.measure import measure

    try:
        plugins.load(plugins.from_json(request.get("plugins", ())))
        trace = Path(request["trace"]) if request["trace"] else None
        return {
            "profile": measure(
                case_from_json(request["case"]), request["iterations"], trace
            ).to_json()
        }
    except SwbenchError as problem:
        return {"status": "refused", "detail": str(problem)}
    except Unsupported as problem:
        return {"status": "unsupported", "detail": problem.reason}
    except (MemoryError, torch.OutOfMemoryError) as problem:
        return {
            "status": "out_of_memory",
            "detail": str(problem).split("\n", 1)[0] or "the host's memory did not suffice",
        }


if __name__ == "__main__":
    main()
