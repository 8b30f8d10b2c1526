#!/usr/bin/env python3
"""Prints what another accountant says of the sampled Gaussian mechanism.

    python3 -m venv venv && venv/bin/pip install dp-accounting==0.6.0
    venv/bin/python accountant_vectors.py > ../../aggregation/tests/vectors/accountant.json

Each case has the sampling rate q, the noise multiplier z, the number of steps, delta, and
  rdp       epsilon of the Renyi accountant at its default orders,
  pld       epsilon of the privacy-loss distribution as that accountant gives it by default (a grid
            of 1e-4); absent where that grid is too coarse to say anything,
  pld_high  the same on a grid that is fine for this mechanism; a bound from above,
  pld_low   as much below pld_high as a grid of twice the width is above it. The excess falls with
            the square of the width, so that the truth lies between the two.
For q = 1 the truth has a closed form, and both bounds are it.
"""
import json, math, sys
from dp_accounting import PoissonSampledDpEvent, GaussianDpEvent
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

SETTINGS = [
    # the usual ones
    (0.01, 1.0, 2000, 1e-6), (0.01, 1.0, 2000, 1e-5), (0.01, 1.0, 10000, 1e-6),
    (0.01, 1.1, 10000, 1e-5), (0.004, 1.1, 10000, 1e-5), (0.01, 4.0, 10000, 1e-5),
    (0.02, 0.8, 500, 1e-5), (0.05, 1.5, 400, 1e-5), (0.1, 2.0, 300, 1e-6),
    (0.1, 1.0, 100, 1e-5), (0.2, 3.0, 200, 1e-5), (0.3, 4.0, 300, 1e-5),
    (0.5, 5.0, 100, 1e-5), (0.5, 2.0, 30, 1e-6), (0.9, 6.0, 50, 1e-5),
    # all rows in each step
    (1.0, 1.0, 1, 1e-5), (1.0, 0.5, 1, 1e-6), (1.0, 3.2, 30, 1e-5), (1.0, 10.0, 100, 1e-6),
    (1.0, 100.0, 10000, 1e-5), (1.0, 20.0, 1000, 1e-8), (1.0, 0.3, 1, 1e-5), (1.0, 50.0, 1, 1e-5),
    (1.0, 5.0, 10, 1e-10), (1.0, 2.0, 3, 1e-2),
    # little noise
    (0.01, 0.5, 100, 1e-5), (0.01, 0.6, 1000, 1e-6), (0.001, 0.5, 1000, 1e-6),
    (0.001, 0.4, 100, 1e-5), (0.1, 0.5, 10, 1e-5), (0.01, 0.3, 10, 1e-5), (0.5, 0.5, 5, 1e-5),
    (0.0001, 0.5, 10000, 1e-6), (0.05, 0.4, 50, 1e-5), (0.2, 0.6, 20, 1e-6),
    # much noise
    (0.01, 10.0, 10000, 1e-5), (0.1, 10.0, 1000, 1e-5), (0.1, 20.0, 10000, 1e-6),
    (0.5, 30.0, 1000, 1e-5), (0.05, 8.0, 5000, 1e-7), (0.9, 40.0, 500, 1e-6),
    (0.02, 5.0, 2000, 1e-9), (0.5, 100.0, 10000, 1e-5),
    # few steps, many steps, rare rows
    (0.01, 1.0, 1, 1e-5), (0.1, 1.0, 1, 1e-6), (0.5, 1.0, 1, 1e-5), (0.1, 1.0, 2, 1e-5),
    (0.3, 2.0, 3, 1e-5), (0.01, 1.0, 10, 1e-6), (0.001, 1.0, 10000, 1e-6),
    (0.0001, 1.0, 10000, 1e-7), (0.0001, 0.7, 10000, 1e-8), (0.001, 0.8, 5000, 1e-7),
    (0.002, 1.2, 10000, 1e-6), (0.03, 1.0, 1000, 1e-6),
    # delta at the ends
    (0.01, 1.0, 2000, 1e-10), (0.01, 1.0, 2000, 1e-3), (0.05, 2.0, 500, 1e-10),
    (0.1, 1.5, 50, 1e-2), (0.02, 1.0, 1000, 1e-9), (0.25, 2.5, 100, 1e-4),
]


def closed_form(z, steps, delta):
    """Epsilon of the Gaussian mechanism (Balle and Wang 2018, Theorem 8)."""
    mu = math.sqrt(steps) / z
    def excess(epsilon):
        a, b = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        return ndtr(a) - math.exp(epsilon + log_ndtr(b)) - delta
    if excess(0.0) < 0:
        return 0.0
    return brentq(excess, 0.0, mu * mu / 2 + mu * math.sqrt(-2 * math.log(delta)), xtol=1e-15, rtol=1e-13)


def composed(q, z, steps, delta, interval):
    one = pld.from_gaussian_mechanism(z, value_discretization_interval=interval, sampling_prob=q)
    return one.self_compose(steps).get_epsilon_for_delta(delta)


def spread(q, z):
    """Standard deviation of the loss of one step, or an upper bound for rare, heavy tails."""
    return min(q * math.sqrt(math.expm1(min(1 / z**2, 50))), 1 / z)


def main():
    cases = []
    for q, z, steps, delta in SETTINGS:
        rdp = RdpAccountant().compose(PoissonSampledDpEvent(q, GaussianDpEvent(z)), steps).get_epsilon(delta)
        case = {"q": q, "z": z, "steps": steps, "delta": delta, "rdp": float(rdp)}
        usual = composed(q, z, steps, delta, 1e-4)
        if q == 1.0:
            case["pld_low"] = case["pld_high"] = closed_form(z, steps, delta)
        else:
            width = min(1e-4, spread(q, z) / 100)
            case["pld_high"] = composed(q, z, steps, delta, width)
            twice = composed(q, z, steps, delta, 2 * width)
            case["pld_low"] = min(case["pld_high"], 2 * case["pld_high"] - twice)
        if usual <= 1.0002 * case["pld_high"]:
            case["pld"] = usual
        cases.append(case)
        print(case, file=sys.stderr, flush=True)
    print("[\n" + ",\n".join("  " + json.dumps(c) for c in cases) + "\n]")


if __name__ == "__main__":
    main()
