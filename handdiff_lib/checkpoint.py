"""Weights on disk: safetensors and a JSON card beside it that says what they are. Nothing is ever unpickled."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from handdiff_lib.denoiser import Denoiser, DenoiserConfig
from handdiff_lib.hand import DATA, InputError
from handdiff_lib.pyramid import Pyramid

SHIPPED = DATA / "weights"
DEFAULT_WEIGHTS = SHIPPED / "base.safetensors"


def save_tensors(path: Path, tensors: dict[str, Tensor], card: dict) -> None:
    """Write `path` and the card `path.json`, each whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    try:
        save_file({name: t.detach().contiguous() for name, t in tensors.items()}, part)
        part.chmod(0o644)
        os.replace(part, path)
        part.write_text(json.dumps(card, indent=2) + "\n")
        os.replace(part, path.with_suffix(".json"))
    finally:
        part.unlink(missing_ok=True)


def save_denoiser(path: Path, model: Denoiser, card: dict) -> None:
    """Write a denoiser's weights in half precision (spirals included, as int16) and its card.

    Half precision changes answers by about a hundredth of a degree, and the file is half as large.
    """
    tensors = {k: v.to(torch.int16 if "spirals" in k else torch.float16) for k, v in model.state_dict().items()}
    save_tensors(path, tensors, {"config": asdict(model.cfg)} | card)


def load_denoiser(path: Path | None = None) -> tuple[Denoiser, dict]:
    """A denoiser in eval mode and its card: from a file, or the name of weights that ship; without either, `base`.

    Raises InputError when there are no such weights, or the files are damaged.
    """
    path = DEFAULT_WEIGHTS if path is None else Path(path)
    named = SHIPPED / f"{path}.safetensors"
    if not path.is_file() and len(path.parts) == 1 and named.is_file():
        path = named
    if not path.is_file() or not path.with_suffix(".json").is_file():
        there = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors")))
        cure = f"train some: handdiff train, or name some that ship: {there}"
        raise InputError(f"weights {path} with their card {path.stem}.json not found; {cure}")
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        return _rebuilt(load_file(path), card["config"]), card
    except Exception as error:  # a damaged file may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"weights {path} with their card cannot be read ({reason}); train again") from None


def _rebuilt(tensors: dict[str, Tensor], config: dict) -> Denoiser:
    """The denoiser that was saved as these."""
    cfg = DenoiserConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})
    spirals = [tensors[f"mesh_y.convs.{k}.spirals"].long() for k in range(len(cfg.channels))]
    model = Denoiser(cfg, Pyramid(spirals, [s[:, 0] for s in spirals]))
    model.load_state_dict({k: v.long() if "spirals" in k else v.float() for k, v in tensors.items()})
    return model.eval()
