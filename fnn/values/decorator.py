"""Makers: functions whose results remember the call that made them.

A made value, such as `optim.adam(1e-3, b2=0.99)`, is a pytree. The numbers, arrays and made values among the arguments
of its call are its leaves and subtrees; the maker and all other arguments are its structure. An argument that was left
at its default is structure too. So jit, vmap and grad work by the numbers of a value, and it can be printed, compared,
hashed, copied and pickled. Its functions are built when they are first used, since JAX may put anything in the place of
a leaf: a tracer, an axis number, None, a gradient.
"""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Generic, ParamSpec, TypeVar, overload

from fnn.errors import ConfigError
from fnn.values.made import Structure, contract_of, is_contract, made_class, required
from fnn.values.structure import is_numeric, split

P = ParamSpec("P")
T = TypeVar("T")


class Maker(Generic[T]):
    """What is known of a maker: how to build from its arguments, and which of these are numbers.

    build:    the function of the arguments that gives the contract, such as a Layer
    public:   the function that users call
    numeric:  the names of the arguments whose Python numbers are leaves
    contract: the class of what it builds, such as Layer, where its return annotation says so, else None
    show:     what prints the call in a way of its own: (argument, ...) -> text
    """

    def __init__(
        self,
        build: Callable[..., T],
        structure: tuple[str, ...],
        show: Callable[..., str] | None,
        *,
        signature: inspect.Signature | None = None,
        contract: Any = None,
    ):
        self.build = build
        self.public: Callable[..., T] = build
        self.name = build.__name__
        self.signature = signature_of(build) if signature is None else signature
        self.kinds = {name: parameter.kind for name, parameter in self.signature.parameters.items()}
        self.numeric = frozenset(
            name
            for name, parameter in self.signature.parameters.items()
            if name not in structure and is_numeric(parameter.annotation)
        )
        self.show = show
        declared = self.signature.return_annotation if contract is None else contract
        self.contract: Any = declared if is_contract(declared) else None

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The made value of this call. What it is built of is checked now, with the numbers as they were given."""
        built = self.build(*args, **kwargs)
        missing = [name for name in required(self.contract) if not hasattr(built, name)]
        if missing:
            expected = f"a maker that returns a {self.contract.__name__}, as its annotation says"
            raise ConfigError(
                self.name,
                expected,
                f"{type(built).__name__}",
                "return one, or annotate what it returns",
            )
        arguments = self.signature.bind(*args, **kwargs).arguments
        return self.record(arguments, self.contract or contract_of(built), built)

    def record(self, arguments: dict[str, Any], contract: Any, built: Any = None) -> Any:
        """The made value of a call with these arguments, by name, of a class with the fields of the contract."""
        children: list[Any] = []
        keys: list[Any] = []
        call = tuple(
            (name, split(value, name in self.numeric, children, keys, self._key(name)))
            for name, value in arguments.items()
        )
        return made_class(contract)._of(Structure(self, call, tuple(keys)), tuple(children), built)

    def _key(self, name: str) -> tuple[str, ...]:
        """Where in the path of a leaf the argument stands; the entries of *args and **kwargs stand for themselves."""
        variadic = self.kinds[name] in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        return () if variadic else (name,)

    def apply(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """The function, called with these arguments, by name."""
        bound = inspect.BoundArguments(self.signature, arguments)
        return function(*bound.args, **bound.kwargs)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature, with annotations that are strings evaluated; ConfigError where one cannot be."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        advice = "define or import it before the maker"
        raise ConfigError(
            function.__name__, "annotations that can be evaluated", error, advice
        ) from None


def is_maker(value: Any) -> bool:
    """Whether the value is a maker itself, which was not called."""
    return isinstance(getattr(value, "__dict__", {}).get("record"), Maker)


# The decorator.


@overload
def maker(function: Callable[P, T]) -> Callable[P, T]: ...
@overload
def maker(
    *, structure: tuple[str, ...] = (), show: Callable[..., str] | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def maker(
    function: Callable[..., Any] | None = None,
    *,
    structure: tuple[str, ...] = (),
    show: Callable[..., str] | None = None,
) -> Any:
    """Make a function's results remember their call: pytrees that print, compare, hash, and can be copied and pickled.

        @fnn.maker
        def block(width: int, drop_rate: fnn.types.Number) -> fnn.types.Layer:
            return nn.chain(nn.dense(width), nn.relu(), nn.dropout(drop_rate))

    Numbers of arguments that are annotated as such (`Number`, `Rate`, `Magnitude`, also inside of `Sequence` and
    `Mapping`), arrays, and made values inside of any argument are leaves and subtrees; all else is structure. In an
    `nn.chain` the layer stands under the maker's name, here `block_0`.

    Args:
        function: A function that returns a Layer, Optimizer, Schedule, Policy, Loss, Metric, regularizer or
            initializer. It must be defined at the top of a module for its values to be pickled.
        structure: Arguments annotated as numbers whose Python numbers decide what is built, and so are structure.
            Arrays in their place are leaves still.
        show: What prints the call, where that is no call of the maker's name: (argument, ...) -> text.
    """
    if function is None:
        return partial(maker, structure=structure, show=show)
    own: Maker[Any] = Maker(function, structure, show)

    @wraps(function)
    def make(*args: Any, **kwargs: Any) -> Any:
        return own.call(*args, **kwargs)

    own.public = make
    make.__dict__["record"] = own
    return make
