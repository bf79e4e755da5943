# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Exposures of a field whose sky moved on the detector."""

import numpy as np

SIDE = 192
SKY, SIGMA = 500.0, 10.0
MIDDLE = (SIDE - 1) / 2


def draw(*, shift=(0.0, 0.0), angle=0.0, width=1.5, n=80, seed=0, side=SIDE, brightest=40000):
    """Give the light of a field of stars whose sky was shifted and turned about the middle."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-20, side + 20, (n, 2))
    fluxes = np.exp(rng.uniform(np.log(600), np.log(brightest), n))
    y, x = np.mgrid[:side, :side].astype(float)
    light = np.zeros((side, side))
    for (at_y, at_x), flux in zip(moved(places, shift, angle, side), fluxes, strict=True):
        star = np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / 2 / width**2)
        light += flux / (2 * np.pi * width**2) * star
    return light


def moved(places, shift, angle, side=SIDE):
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    middle = (side - 1) / 2
    return (places - middle) @ matrix.T + middle + shift


def noisy(light, seed, *, sky=SKY, sigma=SIGMA):
    return sky + light + np.random.default_rng(seed).normal(0, sigma, light.shape)


DITHERS = ((0, 0), (8.3, -3.1), (-7.6, 9.4), (4.2, 12.7))
