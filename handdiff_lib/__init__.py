"""handdiff: coherent 3D hand motion from jittery per-frame estimates."""

__version__ = "0.1.0"
