"""One bit for each image as text, small enough for a row: 10,000 images take 1,668 characters."""

import base64

import numpy as np


def pack(flags: np.ndarray) -> str:
    """bool [n] -> text: base64 of the bits, the first one the highest of its byte."""
    return base64.b64encode(np.packbits(flags)).decode('ascii')


def unpack(text: str, count: int) -> np.ndarray:
    """The bool [count] that `pack` was given.

    Raises:
      ValueError: the text is no base64, or of another number of bytes.
    """
    packed = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f'{len(packed)} bytes cannot hold one bit for each of {count} images')
    return np.unpackbits(packed, count=count).astype(bool)
