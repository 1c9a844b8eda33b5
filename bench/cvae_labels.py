"""Does a conditional VAE draw what it is asked for? Lesson 07's model of labels, beside the ways that do less well.

    OMP_NUM_THREADS=2 python bench/cvae_labels.py     # writes bench/results/cvae_labels-DEVICE.json
    python bench/cvae_labels.py --quick               # a fraction of the work: shows that it runs

MNIST is looked for in `VAE_COURSE_DATA`."""
import argparse, time

import torch

import common

seeds = (0, 1, 2)
