"""The pixels of an image where they lie, without a copy.

``np.asarray(image)`` copies them through an encoder, which takes up to a third of the time that
decoding a JPEG does. Pillow also lends its memory by the Arrow C data interface, from which only
an address is read here; the array keeps the image's memory alive.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]

_ONE_BYTE = {"L", "P"}
_FOUR_BYTES = {"RGB", "RGBA", "RGBX", "CMYK"}
_PIXELS = 1  # the place of the values among an array's buffers; the first says which are null


class _ArrowArray(ctypes.Structure):
    """``struct ArrowArray`` of the Arrow C data interface."""

    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.POINTER(ctypes.c_void_p)),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


_address = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype = ctypes.c_void_p
_address.argtypes = (ctypes.py_object, ctypes.c_char_p)


class _Lent:
    """Memory that NumPy may look at as long as this object lives."""

    def __init__(self, owner: object, address: int, shape: tuple[int, ...]) -> None:
        self._owner = owner
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "data": (address, True),  # read-only
        }


def stored_bytes(image: Image.Image) -> Bytes:
    """The pixels of a loaded ``image`` as Pillow stores them: (H, W), or (H, W, 4).

    Modes of three channels have a fourth byte, which means nothing. Only where the image lies in
    several pieces of memory, as very large ones do, is it copied.

    Raises:
        ValueError: the mode is not of one or four bytes a pixel.
    """
    channels = () if image.mode in _ONE_BYTE else (4,)
    if channels and image.mode not in _FOUR_BYTES:
        raise ValueError(f"mode {image.mode} is not of one or four bytes a pixel")
    shape = (image.height, image.width, *channels)
    try:
        _, capsule = image.__arrow_c_array__()
    except ValueError:  # it lies in several pieces
        return _copied(image, shape)
    array = _ArrowArray.from_address(_address(capsule, b"arrow_array"))
    if channels:
        array = _ArrowArray.from_address(array.children[0])
    return np.asarray(_Lent(capsule, array.buffers[_PIXELS], shape))


def _copied(image: Image.Image, shape: tuple[int, ...]) -> Bytes:
    raw = image.tobytes("raw", "RGBX") if image.mode == "RGB" else image.tobytes()
    return np.frombuffer(raw, np.uint8).reshape(shape)
