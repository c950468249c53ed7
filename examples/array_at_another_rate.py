"""Label samples in memory, stereo and at a rate that is not the model's."""

import numpy as np

import audiorep

RATE = 44_100

times = np.arange(5 * RATE) / RATE
beeps = np.sin(2 * np.pi * 2000 * times) * (times % 0.5 < 0.2)  # an alarm clock, roughly
stereo = np.stack([0.3 * beeps, 0.2 * beeps], axis=1)  # (N, C) floats in -1..1

print(audiorep.load("esc50")(stereo, RATE).top(3))
