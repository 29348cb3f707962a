"""Steps along the gradient, or along its running sum."""

from fnn import checks
from fnn.optim.lifting import lift, zeros
from fnn.types import Number, Optimizer, Rate


def sgd(rate: Rate) -> Optimizer:
    """Stochastic gradient descent, θ <- θ - rate g [Robbins & Monro 1951]."""

    def rule(g, p, rate, t):
        return (-rate * g,)

    return lift("sgd", rule, rate)


def momentum(rate: Rate, *, decay: Number = 0.9, nesterov: bool = False) -> Optimizer:
    """The heavy ball, v <- decay v + g, θ <- θ - rate v; with nesterov θ <- θ - rate (g + decay v).

    As in torch, the rate stands outside v, so that a schedule acts at once [Polyak 1964; Sutskever et al. 2013].
    """
    checks.number("momentum decay", decay, "[0, 1)")
    checks.flag("momentum nesterov", nesterov)

    def rule(g, p, v, rate, t, decay):
        v = decay * v + g
        return -rate * (g + decay * v if nesterov else v), v

    return lift("momentum", rule, rate, slots=zeros("velocity"), decay=decay)
