"""Forms of layers that compile to faster code on a CPU, equal to the plain ones.

Each is chosen by the platform when the program is compiled: the fast form on a CPU, the plain one
elsewhere. The field `fast=False` of a net turns all of them off. Programs that other tools read as
traced, converters to ONNX above all, need it: they know no choice by platform. jax.export does.

All have gradients, and gradients of gradients, in reverse mode; jax.jvp and jax.jacfwd of them
raise a TypeError on any platform, as custom_vjp does. Forward mode needs `fast=False`.
"""

from cnns.fast.batch_norm import batch_norm, plain_batch_norm
from cnns.fast.common import alone, apart
from cnns.fast.convolution import conv, plain_conv
from cnns.fast.lrn import lrn, plain_lrn
from cnns.fast.pooling import max_pool, plain_max_pool, plain_sum_pool, sum_pool

__all__ = [
    'alone', 'apart', 'batch_norm', 'conv', 'lrn', 'max_pool', 'sum_pool',
    'plain_batch_norm', 'plain_conv', 'plain_lrn', 'plain_max_pool', 'plain_sum_pool',
]  # fmt: skip
