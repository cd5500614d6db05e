"""`--plugin FILE`: the user's own models, norms and solvers. The file is executed, which is why
nothing but that flag ever names one. `--model timm:NAME`: a network to import, likewise.

Neither a suite, nor a stored plan, nor the environment can: the command line hands its files and
names to the processes that it starts.
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
    """A network that `--model` named (`timm:resnet50`), and with it leave to import it: `digest` is
    the version of its package, or the hash of its module.
    """

    name: str
    digest: str


_loaded: dict[str, Plugin] = {}
"""By absolute path: a file that was executed is not executed again."""

_models: dict[str, NamedModel] = {}
"""By name: the networks that this process may import."""


def load(given: Iterable[str | Plugin | NamedModel]) -> tuple[Plugin | NamedModel, ...]:
    """Execute each file as a module of its own name and call its `register()`, which adds to the
    tables; give leave to import each network that the command line named.

    A `Plugin` stands for the file as it was, so that a worker refuses one that has been edited
    since. Raises OptionError for a file that is not there, is not Python, has no `register`, fails,
    has changed, or whose name is a module's already.
    """
    return tuple(_allow(one) if isinstance(one, NamedModel) else _load(one) for one in given)


def named_model(name: str) -> NamedModel | None:
    """The network that the command line named so; None if it named none."""
    return _models.get(name)


def digests(plugins: Iterable[Plugin | NamedModel]) -> dict[str, str]:
    """What a run keeps of its plugins and named networks: never where they are, only what they
    were.
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
        NamedModel(one["model"], one["digest"])
        if "model" in one
        else Plugin(one["path"], one["digest"])
        for one in data
    )


def _allow(model: NamedModel) -> NamedModel:
    _models[model.name] = model
    return model


def _load(file: str | Plugin) -> Plugin:
    given = file.path if isinstance(file, Plugin) else file
    path = Path(given).absolute()
    if path.suffix != ".py" or not path.is_file():
        raise OptionError(f"--plugin {given}: there is no such Python file")
    source = _source(path, given)
    plugin = Plugin(str(path), hashlib.sha256(source).hexdigest()[:12])
    if isinstance(file, Plugin) and file != plugin:
        raise OptionError(
            f"--plugin {given}: the file was edited since the run began; start a new run"
        )
    before = _loaded.get(plugin.path)
    if before is None:
        _execute(path, source, given)
        _loaded[plugin.path] = plugin
    elif before != plugin:
        raise OptionError(f"--plugin {given}: the file was edited since this process executed it")
    return plugin


def _source(path: Path, given: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise OptionError(f"--plugin {given}: cannot be read: {problem.strerror}") from None


def _execute(path: Path, source: bytes, given: str) -> None:
    """Run the very bytes that were hashed."""
    name = path.stem
    if not name.isidentifier():
        raise OptionError(
            f"--plugin {given}: {name!r} cannot be the name of a module; rename "
            "the file with letters, digits and _ alone"
        )
    if name in sys.modules or _elsewhere(name, path):
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
        raise OptionError(f"--plugin {given}: {_cause(problem, path)}") from problem


def _elsewhere(name: str, path: Path) -> bool:
    """Whether an import of that name would find something other than the file itself."""
    found = importlib.util.find_spec(name)
    return found is not None and (
        found.origin is None or Path(found.origin).resolve() != path.resolve()
    )


def _cause(problem: BaseException, path: Path) -> str:
    """What a plugin raised, with the last of its own lines that ran."""
    words = " ".join(str(problem).split())[:300]
    if isinstance(problem, OptionError):
        return words
    if isinstance(problem, SyntaxError):
        return f"line {problem.lineno}: {problem.msg}"
    lines, at = [], problem.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == str(path):
            lines.append(at.tb_lineno)
        at = at.tb_next
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(problem).__name__}{f': {words}' if words else ''}"
