"""Weights, media and latents that depend on a name and a shape alone, so that diffusers and Diorama can be given the
same ones on machines that have only one of the two; and what diffusers makes of them, recorded.

`python -m tests.interop.diffusers.video_record` writes `recorded/video_*.json` anew (needs torch and diffusers).
"""

import hashlib
import importlib
import json
import math
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diorama.interop.tensors import Tensors

RECORDED = Path(__file__).parent / "recorded"
KEPT = 80  # numbers kept of each array
# Of weights where 1.5 makes outputs large: wavelets add eight numbers up, noise times scale what they are told to.
GAINS = {"decoder.conv_out.conv_t": 0.3, "time_embedder": 0.75}

# Most of these tests' time is compilation, so XLA is told not to think long.
FAST = {"xla_backend_optimization_level": 0}
encode = jax.jit(lambda module, media: module.encode(media), compiler_options=FAST)
decode = jax.jit(lambda module, latents, *args: module.decode(latents, *args), compiler_options=FAST)


def noise(name, shape):
    """Numbers of zero mean and unit variance, a function of `name` (raw bits: numpy keeps their stream for ever)."""
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(math.prod(shape))
    uniform = np.asarray(bits >> np.uint64(11), np.float64) * 2.0**-53
    return (math.sqrt(12) * (uniform - 0.5)).reshape(shape).astype(np.float32)


def weight(name, shape):
    """A parameter that keeps activations of order one."""
    last = name.rsplit(".", 1)[-1]
    if last == "timestep_scale_multiplier":
        return np.float32(1000)
    if last in ("gamma", "latents_std") or (last == "weight" and len(shape) == 1):
        return 1 + noise(name, shape) / 5
    if last == "weight":
        gain = next((gain for part, gain in GAINS.items() if part in name), 1.5)
        return noise(name, shape) * np.float32(gain / math.sqrt(math.prod(shape[1:])))
    return noise(name, shape) / (20 if last == "bias" else 5)  # larger biases would drown what depends on the input


def media_of(shape):
    """Media in [-1, 1], `(b, t, h, w, c)`."""
    return noise(f"media {shape}", shape) / np.float32(math.sqrt(3))


def latents_of(shape):
    """Latents of unit variance."""
    return noise(f"latents {shape}", shape)


def clip(config, frames):
    """Media of two examples, two cells wide."""
    return media_of((2, frames, config.spatial, 2 * config.spatial, 3))


def codes(config, frames):
    """Latents for as many frames of such media."""
    return latents_of((2, 1 + (frames - 1) // config.temporal, 1, 2, config.channels))


def changed(array, start):
    """A copy whose frames from `start` on have the opposite sign (in place it would race with what reads it)."""
    return np.concatenate([array[:, :start], -array[:, start:]], axis=1)


def excerpt(array):
    """`KEPT` of its numbers, far apart and in no row, column or channel of their own."""
    flat = np.asarray(array, np.float32).ravel()
    return flat[(np.arange(KEPT) * 7919 + 13) % flat.size]


class Named(Tensors):
    """A file that has every array it is asked for, and remembers which those were."""

    def __init__(self):
        super().__init__({}, "named weights")
        self.asked = {}

    def take(self, name, shape):
        assert name not in self.asked, f"{name} is taken twice"
        self.asked[name] = shape
        return jnp.asarray(weight(name, shape), jnp.float32)


class Shapes(Named):
    """The same without numbers, for large ones."""

    def take(self, name, shape):
        self.asked[name] = shape
        return jnp.zeros(shape)


def digest(shapes):
    """How many names there are, and a fingerprint of them and their shapes, in whatever order."""
    lines = sorted(f"{name} {tuple(map(int, shape))}" for name, shape in shapes.items())
    return f"{len(lines)} {hashlib.sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"


def asked(config):
    """Names and shapes that `config` asks a file for; no array is made."""
    tensors = Shapes()
    jax.eval_shape(lambda: config.build(tensors))
    return tensors.asked


def reference(options):
    """The autoencoder of diffusers with the weights that its names give it."""
    import diffusers
    import torch

    model = getattr(diffusers, options["_class_name"]).from_config(json.loads(json.dumps(options))).eval()
    state = {name: torch.tensor(weight(name, tuple(p.shape))) for name, p in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def parameters(options):
    """Names and shapes in a file of diffusers; no array is made."""
    import diffusers
    import torch

    with torch.device("meta"):
        model = getattr(diffusers, options["_class_name"]).from_config(json.loads(json.dumps(options)))
    return {name: tuple(p.shape) for name, p in model.state_dict().items()}


def their_encode(model, media):
    """Means of the latents of `media`, both `(b, t, h, w, c)`."""
    import torch

    with torch.no_grad():
        mode = model.encode(torch.tensor(media).movedim(-1, 1)).latent_dist.mode()
    return mode.movedim(1, -1).numpy()


def their_decode(model, latents, *args):
    """Media of `latents`, both `(b, t, h, w, c)`; `args` are further arguments of diffusers' `decode`."""
    import torch

    with torch.no_grad():
        sample = model.decode(torch.tensor(latents).movedim(-1, 1), *map(torch.tensor, args)).sample
    return sample.movedim(1, -1).numpy()


def load(name):
    """The recorded numbers of one architecture."""
    return json.loads((RECORDED / f"video_{name}.json").read_text())


def as_recorded(kept, frames, latents, media):
    """That these are the latents and the media which were recorded of one form, and of order one."""
    for kind, array in (("encode", latents), ("decode", media)):
        assert 0.1 < np.std(array) < 10
        np.testing.assert_allclose(excerpt(array), kept[kind][str(frames)], rtol=0, atol=1e-5)


def read_back(kind, model, folder):
    """The configuration of class `kind` and the arrays out of what diffusers' `model` saves in `folder`."""
    model.save_pretrained(folder)
    config = kind.from_dict(json.loads((folder / "config.json").read_text()))
    return config, Tensors.open(folder / "diffusion_pytorch_model.safetensors")


def save(name, forms, published, encoded, decoded):
    """Record names and numbers of `forms` (options and frames of clips by name) and names of `published` ones.

    `encoded` and `decoded` give diffusers' arrays for a model and a number of frames.
    """
    import diffusers
    import torch

    def numbers(array):
        print(f"{name}: deviation {array.std():.2f}")
        return [float(f"{x:.8g}") for x in excerpt(array)]

    record = {"versions": {"diffusers": diffusers.__version__, "torch": torch.__version__}, "forms": {}}
    for form, (options, frames) in forms.items():
        model = reference(options)
        record["forms"][form] = {
            "names": digest(parameters(options)),
            "encode": {str(t): numbers(encoded(model, form, t)) for t in frames},
            "decode": {str(t): numbers(decoded(model, form, t)) for t in frames},
        }
    record["published"] = {form: digest(parameters(options)) for form, options in published.items()}
    RECORDED.mkdir(exist_ok=True)
    text = json.dumps(record, separators=(",", ":")).replace("},", "},\n")
    (RECORDED / f"video_{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    for name in ("wan", "ltx", "cosmos"):
        tests = importlib.import_module(f"tests.interop.diffusers.test_{name}")
        save(name, tests.FORMS, tests.PUBLISHED, tests.theirs_encoded, tests.theirs_decoded)
