"""Memory that is freed serves the next batch, in place of pages that the kernel clears anew."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from pipeline.vision.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

network = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3)
)
images = torch.rand(64, 1, 64, 64)

def steps(number):
    for _ in range(number):
        network(images).square().mean().backward()

steps(5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library keeps memory its own way"
)
def test_a_process_keeps_the_memory_it_frees():
    assert 10 * faults("kept") < faults("given back")


def test_another_c_library_is_left_alone(monkeypatch):
    from pipeline.vision.allocator import keep_freed_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_freed_memory.__wrapped__()
