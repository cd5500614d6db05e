"""Finding the convolution that a norm can be folded into, by traces of `torch.fx`, and
folding it.
"""

from dataclasses import dataclass

from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from swbench.norms.constant_map import constant_map, fold_into, groups_of, reason_not_constant
from swbench.norms.layers import Whiten2d

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)

Places = dict[int, set[tuple[int, str]]]
"""Maps the id of a module to the ids of its parents and its name in each."""


@dataclass
class Folding:
    """One norm, and the convolution that it can be folded into, which then has `groups` groups; or
    the `reason` why it cannot.
    """

    path: str
    norm: nn.Module
    reason: str = ""
    convolution_path: str = ""
    convolution: nn.Module | None = None
    groups: int = 0

    @property
    def merges(self) -> bool:
        """Whether the convolution has fewer groups afterwards."""
        return self.convolution is not None and self.groups < self.convolution.groups

    @property
    def cost(self) -> str:
        """`in 2 groups instead of 32: 2304 multiply-adds a pixel and image instead of 144 (16
        times)`.
        """
        conv = self.convolution
        before = conv.weight.numel()
        after = before * conv.groups // self.groups
        where = "output" if isinstance(conv, nn.Conv2d) else "input"
        return (
            f"in {self.groups} group{'s' if self.groups > 1 else ''} instead of {conv.groups}: "
            f"{after:,} multiply-adds each {where} pixel instead of {before:,} "
            f"({conv.groups // self.groups} times)"
        )

    def apply(self, model: nn.Module) -> None:
        """Fold, in `model`, whose modules these are."""
        a, b = constant_map(self.norm)
        fold_into(self.convolution, a, b, self.groups)
        parent, _, name = self.path.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity().train(self.norm.training))


def foldings(
    model: nn.Module, kinds: tuple[type[nn.Module], ...], merge_groups: bool = False
) -> list[Folding]:
    """A `Folding` for every norm of `kinds` in `model`, except whitening by the statistics of each
    image.
    """
    places: Places = {}
    for parent in model.modules():
        for name, module in parent._modules.items():
            places.setdefault(id(module), set()).add((id(parent), name))
    traces: dict[str, fx.Graph | str] = {}
    return [
        _folding(model, path, norm, merge_groups, places, traces)
        for path, norm in model.named_modules()
        if isinstance(norm, kinds) and not (isinstance(norm, Whiten2d) and norm.recipe.uses_image)
    ]


def _folding(
    model: nn.Module,
    path: str,
    norm: nn.Module,
    merge_groups: bool,
    places: Places,
    traces: dict[str, fx.Graph | str],
) -> Folding:
    reason = reason_not_constant(norm) or _hooks_reason(norm) or _sharing_reason(norm, places)
    if reason:
        return Folding(path, norm, reason)
    root, producer = _producer(model, path, traces)
    if isinstance(producer, str):
        return Folding(path, norm, producer)
    conv_path = f"{root}.{producer.target}" if root else str(producer.target)
    conv = model.get_submodule(conv_path)
    reason = (
        _hooks_reason(conv)
        or _sharing_reason(conv, places)
        or _outer_hooks_reason(model, root, conv_path)
        or _outer_hooks_reason(model, root, path)
    )
    if reason:
        return Folding(path, norm, f"{conv_path} {reason}")
    group = norm.num_pergroup if isinstance(norm, Whiten2d) else 1
    groups = groups_of(conv, group)
    folding = Folding(path, norm, "", conv_path, conv, groups)
    if folding.merges and not merge_groups:
        channels = conv.out_channels // conv.groups
        folding.reason = (
            f"the groups of {conv_path} hold {channels} channels, which are not whole "
            f"whitening groups of {group}; merge_groups=True makes it a convolution {folding.cost}"
        )
    return folding


class _Tracer(fx.Tracer):
    """A tracer that does not enter modules without children."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not m._modules or super().is_leaf_module(m, module_qualified_name)


def _producer(
    model: nn.Module, path: str, traces: dict[str, fx.Graph | str]
) -> tuple[str, fx.Node | str]:
    """The path of the module whose trace contains the convolution before the norm at `path`, and
    the node of that convolution, or the reason why there is none.

    Traces the innermost module that contains both, which works where the full network cannot be
    traced.
    """
    failure = "it is not inside a module that torch.fx could trace"
    root = path
    while root:
        root = root.rpartition(".")[0]
        if root not in traces:
            traces[root] = _trace(model.get_submodule(root))
        graph = traces[root]
        if isinstance(graph, str):
            failure = f"{root or 'the model'} cannot be traced by torch.fx: {graph}"
            continue
        norm_path = path[len(root) + 1 :] if root else path
        calls = _calls(graph, norm_path)
        if len(calls) > 1:
            return root, "it is called more than once"
        producer = (
            _convolution_before(graph, model.get_submodule(root), calls[0]) if calls else None
        )
        if producer is not None:
            return root, producer
        failure = "its input comes from outside of every module that torch.fx could trace"
    return "", failure


def _trace(module: nn.Module) -> fx.Graph | str:
    try:
        return _Tracer().trace(module)
    except Exception as problem:  # noqa: BLE001  whatever a model's code does with what is no tensor
        return f"{type(problem).__name__}: {' '.join(str(problem).split())[:150]}"


def _convolution_before(graph: fx.Graph, root: nn.Module, norm: fx.Node) -> fx.Node | str | None:
    """The call of the convolution whose output only `norm` uses, or the reason why there is none;
    None if the input of `norm` comes from outside of the graph of `root`.
    """
    consumer, producer = norm, norm.args[0] if norm.args else None
    while isinstance(producer, fx.Node) and producer.op != "placeholder":
        if len(producer.users) > 1:
            others = ", ".join(
                _describe_node(root, user) for user in producer.users if user is not consumer
            )
            return f"its input is also used by {others}"
        module = root.get_submodule(producer.target) if producer.op == "call_module" else None
        if not isinstance(module, nn.Identity):
            return _not_foldable_into(graph, root, producer, module) or producer
        consumer, producer = producer, producer.args[0]
    return None if isinstance(producer, fx.Node) else "it is not called with one tensor"


def _not_foldable_into(
    graph: fx.Graph, root: nn.Module, node: fx.Node, module: nn.Module | None
) -> str | None:
    """The reason why a norm cannot be folded into the module that `node` calls; None if it can."""
    if not isinstance(module, CONVOLUTIONS):
        return f"{_describe_node(root, node)} lies between it and a convolution, or is none"
    if is_parametrized(module):
        return f"{node.target} has parametrised weights, which cannot hold the product"
    kind = next(cls for cls in CONVOLUTIONS if isinstance(module, cls))
    methods = ("forward", "_conv_forward") if kind is nn.Conv2d else ("forward",)
    if "forward" in vars(module) or any(
        getattr(type(module), name) is not getattr(kind, name) for name in methods
    ):
        return f"{node.target} is a {type(module).__name__}, a subclass with its own behaviour"
    if len(_calls(graph, str(node.target))) > 1:
        return f"{node.target} is called more than once"
    if any(
        user.op == "get_attr" and user.target.startswith(f"{node.target}.") for user in graph.nodes
    ):
        return f"the weights of {node.target} are read elsewhere as well"
    return None


def _calls(graph: fx.Graph, path: str) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "call_module" and node.target == path]


def _describe_node(root: nn.Module, node: fx.Node) -> str:
    """`layer1.0.relu (ReLU)`, `the function add`, `the method view`."""
    if node.op == "call_module":
        return f"{node.target} ({type(root.get_submodule(node.target)).__name__})"
    if node.op == "output":
        return "the output of the module around it"
    kind = {"call_function": "function", "call_method": "method", "get_attr": "tensor"}[node.op]
    return f"the {kind} {getattr(node.target, '__name__', node.target)}"


def _hooks_reason(module: nn.Module) -> str | None:
    """The reason against folding a module with hooks; None if it has none."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(module, name) for name in hooks):
        return "has hooks, which would see other values"
    return None


def _outer_hooks_reason(model: nn.Module, root: str, path: str) -> str | None:
    """Whether a module inside `root` that holds the one at `path` has hooks."""
    above = path.rpartition(".")[0]
    while above != root and above:
        if _hooks_reason(model.get_submodule(above)):
            return f"is in {above}, which has hooks that would see other values"
        above = above.rpartition(".")[0]
    return None


def _sharing_reason(module: nn.Module, places: Places) -> str | None:
    """The reason against folding a module that several modules contain; None if one does."""
    return "is in several places" if len(places.get(id(module), ())) > 1 else None
