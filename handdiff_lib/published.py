"""Numbers that others published, each table with its source; they stand beside ours and are never mixed with them.

The paper's are measured on DexYCB and HO3D v2, which take a licence: they were not rerun here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A table as printed."""

    source: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]


TABLE1 = Published(
    "DIP Table 1, DexYCB",
    ("MJE mm", "P-MJE mm", "ACCL mm/f²", "KIN °", "STA °"),
    {
        "K-Hand": (24.4, 5.8, 14.41, 23.24, 1.68),
        "K-Hand + PoseBERT, angles": (22.1, 6.0, 2.96, 0.73, 0.00),
        "K-Hand + PoseBERT, positions": (22.3, 5.5, 3.33, None, None),
        "K-Hand + DIP": (21.5, 5.3, 1.17, 0.00, 0.00),
        "HaMeR": (18.9, 4.4, 7.95, 22.49, 1.08),
        "HaMeR + PoseBERT, angles": (18.4, 5.0, 2.71, 0.67, 0.00),
        "HaMeR + PoseBERT, positions": (18.0, 4.4, 2.38, None, None),
        "HaMeR + DIP": (17.5, 4.1, 1.01, 0.00, 0.00),
    },
)

TABLE2 = Published(
    "DIP Table 2, HO3D v2, * not trained on it",
    ("P-MJE mm", "P-MVE mm", "F@5 %", "F@15 %"),
    {
        "HaMeR": (8.1, 8.6, 58.0, 97.4),
        "VIBE": (9.9, 9.5, 52.6, 95.5),
        "TCMR": (11.4, 10.9, 46.3, 93.3),
        "TempCLR": (10.6, 10.6, 48.1, 93.7),
        "Deformer": (9.4, 9.1, 54.6, 96.3),
        "HaMeR + DIP*": (8.0, 8.3, 59.7, 97.6),
    },
)

TABLE3 = Published(
    "DIP Table 3, K-Hand on DexYCB",
    ("MJE mm", "P-MJE mm", "ACCL mm/f²", "KIN °", "STA °"),
    {
        "frame by frame": (24.4, 5.8, 14.41, 23.24, 1.68),
        "SmoothFilter": (25.3, 5.4, 1.96, 0.00, 0.00),
        "constant acceleration loss": (21.7, 5.5, 1.29, 0.00, 0.00),
        "deterministic": (22.7, 5.3, 2.53, 0.39, 0.04),
        "+ diffusion": (21.9, 5.3, 1.38, 0.12, 0.02),
        "+ state": (21.6, 5.3, 1.27, 0.06, 0.00),
        "+ kinetics": (21.7, 5.3, 1.17, 0.00, 0.00),
        "+ stability": (21.5, 5.3, 1.27, 0.05, 0.00),
        "+ kinetics + stability": (21.5, 5.3, 1.17, 0.00, 0.00),
    },
)
