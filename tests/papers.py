"""Optimizers in NumPy, written as in their papers: the reference of fnn.optim.

Each is a generator function (p, rate, **knobs). It yields the params before the first step and
after every step, and is sent one gradient per step.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def follow(
    paper: Callable[..., Any], p: np.ndarray, grads: np.ndarray, rate: float, **knobs: float
) -> np.ndarray:
    """The params after every step."""
    steps = paper(np.array(p), rate, **knobs)
    next(steps)
    return np.stack([steps.send(g) for g in grads])


def sgd(p, rate):
    while True:
        g = yield p
        p = p - rate * g


def momentum(p, rate, momentum, nesterov=False):
    v = 0.0
    while True:
        g = yield p
        v = momentum * v + g
        p = p - rate * (g + momentum * v if nesterov else v)


def rprop(p, rate, shrink, grow, smallest, largest):
    before, size = np.zeros_like(p), np.full_like(p, rate)
    while True:
        g = yield p
        g = g.copy()
        for i in np.ndindex(p.shape):
            if before[i] * g[i] > 0:
                size[i] = min(size[i] * grow, largest)
            elif before[i] * g[i] < 0:
                size[i], g[i] = max(size[i] * shrink, smallest), 0.0
        p = p - size * np.sign(g)
        before = g


def lion(p, rate, b1, b2, weight_decay):
    m = 0.0
    while True:
        g = yield p
        p = p - rate * (np.sign(b1 * m + (1 - b1) * g) + weight_decay * p)
        m = b2 * m + (1 - b2) * g


def adagrad(p, rate, initial, eps, eps_root):
    s = initial
    while True:
        g = yield p
        s = s + g**2
        p = p - rate * g / (np.sqrt(s + eps_root) + eps)


def adadelta(p, rate, decay, eps):
    s = d = 0.0
    while True:
        g = yield p
        s = decay * s + (1 - decay) * g**2
        u = np.sqrt(d + eps) / np.sqrt(s + eps) * g
        d = decay * d + (1 - decay) * u**2
        p = p - rate * u


def rmsprop(p, rate, decay, eps, eps_root, centered=False, momentum=0.0):
    s = a = v = 0.0
    while True:
        g = yield p
        s, a = decay * s + (1 - decay) * g**2, decay * a + (1 - decay) * g
        v = momentum * v + g / (np.sqrt(s - a**2 * centered + eps_root) + eps)
        p = p - rate * v


def adam(p, rate, b1, b2, eps, eps_root, weight_decay=0.0):
    m, s, t = 0.0, 0.0, 0
    while True:
        g = yield p
        t += 1
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        u = m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t) + eps_root) + eps)
        p = p - rate * (u + weight_decay * p)


def amsgrad(p, rate, b1, b2, eps):
    m, s, x, t = 0.0, 0.0, 0.0, 0
    while True:
        g = yield p
        t += 1
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        x = np.maximum(x, s)
        p = p - rate * m / (1 - b1**t) / (np.sqrt(x / (1 - b2**t)) + eps)


def adamax(p, rate, b1, b2, eps):
    m, x, t = 0.0, 0.0, 0
    while True:
        g = yield p
        t += 1
        m, x = b1 * m + (1 - b1) * g, np.maximum(b2 * x, np.abs(g) + eps)
        p = p - rate / (1 - b1**t) * m / x


def nadam(p, rate, b1, b2, eps, momentum_decay):
    m, s, t, product = 0.0, 0.0, 0, 1.0
    while True:
        g = yield p
        t += 1
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
        product *= mu
        m_hat = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        p = p - rate * m_hat / (np.sqrt(s / (1 - b2**t)) + eps)


def radam(p, rate, b1, b2, eps):
    m, s, t = 0.0, 0.0, 0
    while True:
        g = yield p
        t += 1
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        full = 2 / (1 - b2) - 1
        length = full - 2 * t * b2**t / (1 - b2**t)
        u = m / (1 - b1**t)
        if length > 5:
            r = np.sqrt((length - 4) * (length - 2) * full / ((full - 4) * (full - 2) * length))
            u = u * r * np.sqrt(1 - b2**t) / (np.sqrt(s) + eps)
        p = p - rate * u


def adabelief(p, rate, b1, b2, eps, eps_root):
    m, s, t = 0.0, 0.0, 0
    while True:
        g = yield p
        t += 1
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps_root
        p = p - rate * m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)


def yogi(p, rate, b1, b2, eps, initial):
    m, s, t = initial, initial, 0
    while True:
        g = yield p
        t += 1
        m, s = b1 * m + (1 - b1) * g, s - (1 - b2) * np.sign(s - g**2) * g**2
        p = p - rate * m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)


def lars(p, rate, momentum, weight_decay, coefficient):
    v = 0.0
    while True:
        g = yield p
        u = g + weight_decay * p
        v = momentum * v + rate * coefficient * np.linalg.norm(p) / np.linalg.norm(u) * u
        p = p - v


def lamb(p, rate, b1, b2, eps, weight_decay):
    m, s, t = 0.0, 0.0, 0
    while True:
        g = yield p
        t += 1
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        u = m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps) + weight_decay * p
        p = p - rate * np.linalg.norm(p) / np.linalg.norm(u) * u


def novograd(p, rate, b1, b2, eps, weight_decay):
    m, s = 0.0, None
    while True:
        g = yield p
        square = np.linalg.norm(g) ** 2
        s = square if s is None else b2 * s + (1 - b2) * square
        m = b1 * m + (g / (np.sqrt(s) + eps) + weight_decay * p)
        p = p - rate * m


def adafactor(p, rate, exponent, clip, eps, eps_scale, weight_decay, relative_step=False):
    rows = columns = whole = 0.0
    t = 0
    while True:
        g = yield p
        t += 1
        b, square = 1 - t**-exponent, g**2 + eps
        rows = b * rows + (1 - b) * square.mean(1) if p.ndim > 1 else 0
        columns = b * columns + (1 - b) * square.mean(0)
        whole = b * whole + (1 - b) * square
        estimate = np.outer(rows, columns) / rows.mean() if p.ndim > 1 else whole
        u = g / np.sqrt(estimate)
        u = u / max(1, np.sqrt((u**2).mean()) / clip)
        step_rate = min(rate, t**-0.5) if relative_step else rate
        size = max(eps_scale, np.sqrt((p**2).mean())) * step_rate
        p = p - size * u - rate * weight_decay * p


def sm3(p, rate, decay, eps_root):
    m, of_rows, of_columns = 0.0, np.zeros(p.shape[0]), np.zeros(p.shape[1])
    while True:
        g = yield p
        s = np.minimum(of_rows[:, None], of_columns[None]) + g**2
        of_rows, of_columns = s.max(1), s.max(0)
        m = decay * m + (1 - decay) * g / np.sqrt(s + eps_root)
        p = p - rate * m


def muon(p, rate, momentum, weight_decay, nesterov=True, scale="rms"):
    m = 0.0
    while True:
        g = yield p
        m = momentum * m + (1 - momentum) * g
        u = momentum * m + (1 - momentum) * g if nesterov else m
        x = u / np.linalg.norm(u)
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * (x @ x.T @ x) + 2.0315 * (x @ x.T @ x @ x.T @ x)
        if scale == "rms":
            size = 0.2 * np.sqrt(max(p.shape))
        else:
            size = np.sqrt(max(1, p.shape[1] / p.shape[0]))
        p = p - rate * (size * x + weight_decay * p)


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return vectors * values**exponent @ vectors.T


def shampoo(p, rate, decay, momentum, eps, every=1):
    left, right, v, t = eps * np.eye(p.shape[0]), eps * np.eye(p.shape[1]), 0.0, 0
    while True:
        g = yield p
        left, right = decay * left + g @ g.T, decay * right + g.T @ g
        if t % every == 0:
            roots = power(left, -1 / 4), power(right, -1 / 4)
        t += 1
        v = momentum * v + roots[0] @ g @ roots[1]
        p = p - rate * v


def soap(p, rate, b1, b2, decay, eps, every=1):
    left, right, m, s = 0.0, 0.0, 0.0, 0.0
    ql, qr = np.eye(p.shape[0]), np.eye(p.shape[1])
    t = 0
    while True:
        g = yield p
        if t > 0:
            rotated = ql.T @ g @ qr
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * rotated**2
            u = (ql.T @ m @ qr) / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)
            p = p - rate * ql @ u @ qr.T
        left, right = decay * left + (1 - decay) * g @ g.T, decay * right + (1 - decay) * g.T @ g
        if t == 0:
            ql, qr = (np.linalg.eigh(side)[1][:, ::-1] for side in (left, right))
        elif t % every == 0:
            ql, qr = np.linalg.qr(left @ ql)[0], np.linalg.qr(right @ qr)[0]
        t += 1


def schedule_free_sgd(p, rate, b1, power):
    x = z = p
    total = 0.0
    while True:
        g = yield b1 * x + (1 - b1) * z
        z = z - rate * g
        total += rate**power
        x = x + rate**power / total * (z - x)


def schedule_free_adamw(p, rate, b1, b2, eps, weight_decay, power):
    x = z = p
    s, total, t = 0.0, 0.0, 0
    while True:
        y = b1 * x + (1 - b1) * z
        g = yield y
        t += 1
        s = b2 * s + (1 - b2) * g**2
        z = z - rate * (g / (np.sqrt(s / (1 - b2**t)) + eps) + weight_decay * y)
        total += rate**power
        x = x + rate**power / total * (z - x)


def prodigy(p, rate, b1, b2, b3, eps, start, coefficient, weight_decay):
    origin, d, gain, z, m, s, t = p, start, 0.0, 0.0, 0.0, 0.0, 0
    while True:
        g = yield p
        t += 1
        step = d * rate * np.sqrt(1 - b2**t) / (1 - b1**t)
        gain = b3 * gain + d / start * step * np.sum(g * (origin - p))
        z = b3 * z + step * d * g / start
        m, s = b1 * m + (1 - b1) * d * g, b2 * s + (1 - b2) * (d * g) ** 2
        d = max(d, coefficient * gain / np.abs(z).sum())
        p = p - step * (m / (np.sqrt(s) + d * eps) + weight_decay * p)
