"""What a machine can do at best: the rate of large matrix products, measured, to hold achieved speed against."""

import time

import torch


def matrix_rate(dtype: torch.dtype, device: torch.device | None = None, size: int | None = None) -> float:
    """Floating-point operations a second of a square matrix product, the best of several, with torch's threads."""
    device = device or torch.device("cpu")
    size = size or (8192 if device.type == "cuda" else 1024)
    a = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
