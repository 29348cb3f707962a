"""Steps along the gradient, or along its running sum."""

from fnn import checks
from fnn.optim.lifting import lift, zeros
from fnn.types import Number, Optimizer, Rate
from fnn.values import maker


@maker
def sgd(rate: Rate) -> Optimizer:
    """Stochastic gradient descent, θ <- θ - rate g [Robbins & Monro 1951]."""

    def rule(g, p, rate, t):
        return (-rate * g,)

    return lift("sgd", rule, rate)


@maker
def momentum(rate: Rate, *, momentum: Number = 0.9, nesterov: bool = False) -> Optimizer:
    """The heavy ball, v <- momentum v + g, θ <- θ - rate v; with nesterov θ <- θ - rate (g + momentum v).

    As in torch, the rate stands outside v, so that a schedule acts at once [Polyak 1964; Sutskever et al. 2013].
    """
    checks.number("momentum momentum", momentum, "[0, 1)")
    checks.flag("momentum nesterov", nesterov)

    def rule(g, p, v, rate, t, momentum):
        v = momentum * v + g
        return -rate * (g + momentum * v if nesterov else v), v

    return lift("momentum", rule, rate, slots=zeros("velocity"), momentum=momentum)
