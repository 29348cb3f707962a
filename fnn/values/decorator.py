"""Makers: functions whose results record the call that made them.

A made value, such as `optim.adam(1e-3, b2=0.99)`, is a pytree. The numbers, arrays and made values
among the arguments of the call are its leaves and subtrees. The maker and all other arguments,
including those left at their defaults, are its structure. Therefore jit, vmap and grad act on the
numbers of a value, and it can be printed, compared, hashed, copied and pickled. Its functions are
built on first use, since JAX may replace a leaf by anything: a tracer, an axis number, None, a
gradient.
"""

import inspect
from collections.abc import Callable
from functools import cached_property, partial, wraps
from typing import Any, Generic, ParamSpec, TypeVar, get_args, overload

from fnn.errors import ConfigError
from fnn.types import Initializer
from fnn.values.arguments import expect_arguments
from fnn.values.leaves import Variable
from fnn.values.made import Structure, contract_of, is_contract, made_class, required
from fnn.values.show import reference
from fnn.values.structure import is_numeric, split
from fnn.values.variables import assign, is_open, open_parts, variables_of

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # *args, **kwargs

P = ParamSpec("P")
T = TypeVar("T")


class Maker(Generic[T]):
    """The description of a maker: how to build a value, and which arguments are numbers.

    Attributes:
        build: The undecorated function, which returns an object of the contract, such as a Layer.
        public: The decorated function, which users call.
        name: The name of the function.
        signature: Its signature.
        kinds: The kind of each parameter, by name.
        numeric: Names of the parameters whose Python numbers are leaves.
        contract: The class in the return annotation, such as Layer; None for a function.
        show: (argument, ...) -> the text that is printed instead of the call, or None.
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
        self.show = show
        self._structure = structure
        self._signature = signature
        self._contract = contract

    # Reading a signature takes 40 us. There are hundreds of makers, of which a script uses few, so
    # it is read at the first call.

    @cached_property
    def signature(self) -> inspect.Signature:
        return signature_of(self.build) if self._signature is None else self._signature

    @cached_property
    def kinds(self) -> dict[str, Any]:
        return {name: parameter.kind for name, parameter in self.signature.parameters.items()}

    @cached_property
    def _is_variadic(self) -> bool:
        return any(kind in VARIADIC for kind in self.kinds.values())

    @cached_property
    def numeric(self) -> frozenset[str]:
        return frozenset(
            name
            for name, parameter in self.signature.parameters.items()
            if name not in self._structure and is_numeric(parameter.annotation)
        )

    @cached_property
    def initializers(self) -> frozenset[str]:
        """Names of the parameters that take an initializer."""
        return frozenset(
            name
            for name, parameter in self.signature.parameters.items()
            if Initializer in (parameter.annotation, *get_args(parameter.annotation))
        )

    @cached_property
    def contract(self) -> Any:
        declared = self.signature.return_annotation if self._contract is None else self._contract
        return declared if is_contract(declared) else None

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Make the value of a call, and build it, so that wrong arguments raise at once."""
        if any(map(is_open, args)) or any(map(is_open, kwargs.values())):
            return self._call_open(args, kwargs)
        try:
            built = self.build(*args, **kwargs)
        except TypeError:
            # Only a call that has failed is compared with the signature.
            expect_arguments(self.name, self.signature, args, kwargs)
            raise
        missing = [name for name in required(self.contract) if not hasattr(built, name)]
        if missing:
            expected = f"a maker that returns a {self.contract.__name__}, as its annotation says"
            advice = "return one, or correct the return annotation"
            raise ConfigError(self.name, expected, type(built).__name__, advice)
        arguments = self._bind(args, kwargs)
        for name in self.initializers:
            if name in arguments:
                expect_initializer(f"{self.name} {name}", arguments[name])
        return self.record(arguments, self.contract or contract_of(built), built)

    def _call_open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the value of a call with variables, checked with the examples of the variables."""
        expect_arguments(self.name, self.signature, args, kwargs)
        arguments = self._bind(args, kwargs)
        for name, argument in arguments.items():
            for path, part in open_parts(argument, self._key(name)):
                if isinstance(part, Variable) and name not in self.numeric:
                    self._expect_finite(".".join(path), part)
        variables = [variable for _, variable in variables_of(arguments)]
        # The values of a choice are all checked, an interval at its ends.
        for index in range(max(len(variable.examples) for variable in variables)):

            def example(variable: Variable, index: int = index) -> Any:
                return variable.examples[index % len(variable.examples)]

            checked = self.apply(self.call, assign(dict(arguments), example))
        return self.record(arguments, checked.contract)

    def _expect_finite(self, path: str, variable: Variable) -> None:
        """Raise ConfigError for a variable of infinitely many values in the place of structure."""
        if variable.is_finite:
            return
        numbers = ", ".join(name for name in self.kinds if name in self.numeric) or "none"
        raise ConfigError(
            f"{self.name} {path}",
            f"a value or a finite choice, since this is no number (numbers are: {numbers})",
            variable,
            "use search.choice or search.integer, of which each value compiles once",
        )

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a successful call by name, in the order of the parameters."""
        if self._is_variadic or self._signature is not None:
            return self.signature.bind(*args, **kwargs).arguments
        # `bind` checks the arguments once more, and takes as long as the call.
        given = dict(zip(self.kinds, args, strict=False)) | kwargs
        return {name: given[name] for name in self.kinds if name in given}

    def record(self, arguments: dict[str, Any], contract: Any, built: Any = None) -> Any:
        """Make the value of a call without building it.

        Args:
            arguments: By name, without defaults.
            contract: The class of the result.
            built: The result of `build`, if it is known.
        """
        children: list[Any] = []
        keys: list[Any] = []
        call = tuple(
            (name, split(value, name in self.numeric, children, keys, self._key(name)))
            for name, value in arguments.items()
        )
        return made_class(contract)._of(Structure(self, call, tuple(keys)), tuple(children), built)

    def _key(self, name: str) -> tuple[str, ...]:
        """The first part of the path of a leaf; none for the entries of *args and **kwargs."""
        return () if self.kinds[name] in VARIADIC else (name,)

    def apply(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        """Call a function of this signature with arguments by name."""
        bound = inspect.BoundArguments(self.signature, arguments)
        return function(*bound.args, **bound.kwargs)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function, with annotations that are strings evaluated.

    Args:
        function: The function.

    Raises:
        ConfigError: An annotation names something that is not defined.
    """
    try:
        return inspect.signature(function, eval_str=True)
    except NameError as error:
        expected = "annotations that can be evaluated"
        advice = "define or import it before the first call of the maker"
        raise ConfigError(function.__name__, expected, error, advice) from None


def is_maker(value: Any) -> bool:
    """Whether a value is a maker, as opposed to the result of calling one."""
    return isinstance(getattr(value, "__dict__", {}).get("record"), Maker)


def expect_initializer(where: str, value: Any) -> None:
    """Raise ConfigError unless a value is an initializer or None, such as a maker not called."""
    if is_maker(value):
        got, advice = "the maker itself", f"call it, as in {reference(value)}()"
    elif value is None or callable(value):
        return
    else:
        got, advice = repr(value), "give one of fnn.nn, as in nn.he_normal()"
    raise ConfigError(where, "an initializer (key, shape) -> array", got, advice)


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
    """Decorator of makers: results record their call, and are pytrees that print and compare.

        @fnn.maker
        def block(width: int, drop_rate: fnn.types.Number) -> fnn.types.Layer:
            return nn.chain(nn.dense(width), nn.relu(), nn.dropout(drop_rate))

    Leaves and subtrees are: numbers of arguments annotated as `Number`, `Rate` or `Magnitude`, also
    inside of `Sequence` and `Mapping`; arrays; and made values inside of any argument. All else is
    structure. In an `nn.chain` the layer gets the maker's name, here `block_0`.

    Args:
        function: Returns a Layer, Optimizer, Schedule, Policy, Loss, Metric, regularizer or
            initializer. Its values can be pickled if it is defined at the top level of a module.
        structure: Arguments that are annotated as numbers but decide the structure, such as a count
            of parts. Python numbers are then structure; arrays are still leaves.
        show: (argument, ...) -> text, if the value prints as something else than a call.
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
