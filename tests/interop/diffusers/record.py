"""Record what diffusers computes, for the tests that run without it: `python -m tests.interop.diffusers.record`.

Needs torch and diffusers; writes `recorded/image.json` with their versions.
"""

import json
from typing import Any

import numpy as np

from tests.interop.diffusers.cases import CASES, PUBLISHED, RECORDED, digest, latents_of, made, media_of, some


def theirs(options: dict[str, Any]) -> Any:
    """The autoencoder of diffusers, its weights made from names."""
    import diffusers
    import torch

    model = getattr(diffusers, options["_class_name"]).from_config(options).eval().requires_grad_(False)
    arrays = {name: torch.tensor(made(name, tuple(x.shape)), dtype=x.dtype) for name, x in model.state_dict().items()}
    model.load_state_dict(arrays)
    return model


def outputs(options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What it makes of `media_of` and `latents_of`: the mean of latents, and media, `(b, t, h, w, c)`."""
    import torch

    model, media = theirs(options), media_of(options)
    encoded = model.encode(_frames(media))
    mean = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
    latents = latents_of(options, _media(mean, media))
    decoded = model.decode(_frames(latents)).sample
    assert not torch.is_grad_enabled() or not decoded.requires_grad
    return _media(mean, media), _media(decoded, media)


def parameters(options: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what its file holds; no array is made."""
    import diffusers
    import torch

    with torch.device("meta"):
        model = getattr(diffusers, options["_class_name"]).from_config(options)
    return {name: tuple(x.shape) for name, x in model.state_dict().items()}


def _frames(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x.reshape(-1, *x.shape[2:]).transpose(0, 3, 1, 2).copy())


def _media(x: Any, like: np.ndarray) -> np.ndarray:
    return x.numpy().transpose(0, 2, 3, 1).reshape(*like.shape[:2], *x.shape[2:], x.shape[1])


def main() -> None:
    import diffusers
    import torch

    torch.manual_seed(0)
    cases = {}
    for name, options in CASES.items():
        mean, media = outputs(options)
        print(f"{name}: deviation of latents {mean.std():.2f}, of media {media.std():.2f}")
        cases[name] = {"mean": some(mean), "media": some(media), "names": digest(parameters(options))}
    published = {name: digest(parameters(options)) for name, options in PUBLISHED.items()}
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__}
    RECORDED.parent.mkdir(exist_ok=True)
    text = json.dumps({"versions": versions, "cases": cases, "published": published}, separators=(",", ":"))
    RECORDED.write_text(text.replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
