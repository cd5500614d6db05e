"""Plugins: files with models, norms and solvers of the user's own (`--plugin FILE`), and networks
to import by name (`--model timm:NAME`).

A plugin is executed, so only the command line can name one, never a suite, a stored plan or the
environment. The command line hands files and names to the processes that it starts.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from swbench.errors import OptionError


@dataclass(frozen=True)
class Plugin:
    """A file that was executed: its absolute `path`, and the first 12 hex digits of the SHA-256 of
    its bytes.
    """

    path: str
    digest: str

    @property
    def name(self) -> str:
        """The file's name, such as `my_layers.py`."""
        return Path(self.path).name


@dataclass(frozen=True)
class NamedModel:
    """A network that `--model` named (`timm:resnet50`), which permits its import. `digest` is the
    version of its package, or the hash of its module.
    """

    name: str
    digest: str


_loaded: dict[str, Plugin] = {}
"""Executed files by absolute path; none is executed twice."""

_models: dict[str, NamedModel] = {}
"""Networks that this process may import, by name."""


def load(given: Iterable[str | Plugin | NamedModel]) -> tuple[Plugin | NamedModel, ...]:
    """Execute each file as a module of its own name and call its `register()`, which adds to the
    tables; permit the import of each network that the command line named.

    A `Plugin` stands for the file as it was, so that a worker refuses one that has been edited
    since. Raises OptionError for a file that is not there, is not Python, has no `register`, fails,
    has changed, or whose name is a module's already.
    """
    return tuple(_permit(item) if isinstance(item, NamedModel) else _load(item) for item in given)


def named_model(name: str) -> NamedModel | None:
    """The network that the command line named so; None if it named none."""
    return _models.get(name)


def digests(plugins: Iterable[Plugin | NamedModel]) -> dict[str, str]:
    """The digests of plugins and named networks by kind and name, as a run stores them, without
    their paths.
    """
    return {
        f"{'model' if isinstance(plugin, NamedModel) else 'plugin'} {plugin.name}": plugin.digest
        for plugin in plugins
    }


def to_json(plugins: Iterable[Plugin | NamedModel]) -> list[dict[str, str]]:
    """JSON-ready values, for the order of a worker."""
    return [
        {"model": plugin.name, "digest": plugin.digest}
        if isinstance(plugin, NamedModel)
        else {"path": plugin.path, "digest": plugin.digest}
        for plugin in plugins
    ]


def from_json(data: Iterable[Mapping[str, str]]) -> tuple[Plugin | NamedModel, ...]:
    """What `to_json` wrote; nothing is executed or imported."""
    return tuple(
        NamedModel(entry["model"], entry["digest"])
        if "model" in entry
        else Plugin(entry["path"], entry["digest"])
        for entry in data
    )


def _permit(model: NamedModel) -> NamedModel:
    _models[model.name] = model
    return model


def _load(file: str | Plugin) -> Plugin:
    given = file.path if isinstance(file, Plugin) else file
    path = Path(given).absolute()
    if path.suffix != ".py" or not path.is_file():
        raise OptionError(
            f"--plugin {given}: there is no such Python file; give the path of a .py file"
        )
    source = _source(path, given)
    plugin = Plugin(str(path), hashlib.sha256(source).hexdigest()[:12])
    if isinstance(file, Plugin) and file != plugin:
        raise OptionError(
            f"--plugin {given}: the file was edited since the run began; start a new run"
        )
    previous = _loaded.get(plugin.path)
    if previous is None:
        _execute(path, source, given)
        _loaded[plugin.path] = plugin
    elif previous != plugin:
        raise OptionError(
            f"--plugin {given}: the file was edited since this process executed it; start again"
        )
    return plugin


def _source(path: Path, given: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise OptionError(f"--plugin {given}: cannot be read: {problem.strerror}") from None


def _execute(path: Path, source: bytes, given: str) -> None:
    """Execute the bytes that were hashed, and call `register()`."""
    name = path.stem
    if not name.isidentifier():
        raise OptionError(
            f"--plugin {given}: {name!r} cannot be the name of a module; rename "
            "the file with letters, digits and _ alone"
        )
    if name in sys.modules or _shadowed(name, path):
        raise OptionError(
            f"--plugin {given}: a module called {name!r} is installed already; rename the file"
        )
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
        register = getattr(module, "register", None)
        if not callable(register):
            raise OptionError("it defines no register() function; see docs/extending.md")
        register()
    except (Exception, SystemExit) as problem:
        sys.modules.pop(name, None)
        raise OptionError(f"--plugin {given}: {_error_text(problem, path)}") from problem


def _shadowed(name: str, path: Path) -> bool:
    """Whether an import of that name would import something other than the file itself."""
    spec = importlib.util.find_spec(name)
    return spec is not None and (
        spec.origin is None or Path(spec.origin).resolve() != path.resolve()
    )


def _error_text(problem: BaseException, path: Path) -> str:
    """The exception of a plugin in words, with the last of its own lines that ran."""
    message = " ".join(str(problem).split())[:300]
    if isinstance(problem, OptionError):
        return message
    if isinstance(problem, SyntaxError):
        return f"line {problem.lineno}: {problem.msg}"
    lines, traceback = [], problem.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            lines.append(traceback.tb_lineno)
        traceback = traceback.tb_next
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(problem).__name__}{f': {message}' if message else ''}"
