"""`--plugin FILE`: the user's own norms, models and solvers. The file is executed, which is why nothing but this flag ever loads one."""

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

from swbench.errors import OptionError


def load(files: Iterable[str]) -> None:
    """Import each file as a module of its own name, so that its `register()` can add to the tables.

    Raises OptionError for a file that is not there, is not Python, has no `register`, or whose name an installed module has.
    """
    for file in files:
        path = Path(file)
        if not path.is_file() or path.suffix != ".py":
            raise OptionError(f"--plugin {file}: there is no such Python file")
        name = path.stem
        if name in sys.modules or importlib.util.find_spec(name) is not None:
            raise OptionError(f"--plugin {file}: a module called {name!r} is installed already; rename the file")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        if not callable(getattr(module, "register", None)):
            raise OptionError(f"--plugin {file}: it defines no register() function; see docs/extending.md")
        module.register()
