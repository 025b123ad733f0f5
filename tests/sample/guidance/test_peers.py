"""Rules against an independent implementation, where diffusers is installed: its guiders on the same predictions."""

import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import Prediction
from diorama.sample.guidance import APG, MAMBO, CFGZero, ClassifierFree, Rescaled, Tangential
from diorama.sample.guidance.guidance import flow
from tests.sample.guidance.laws import FLOW, TAU, X

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers.guiders")

from diffusers.guiders import (  # noqa: E402
    adaptive_projected_guidance as apg,
)
from diffusers.guiders import (  # noqa: E402
    classifier_free_zero_star_guidance as zero,
)
from diffusers.guiders import (  # noqa: E402
    magnitude_aware_guidance as mambo,
)
from diffusers.guiders import (  # noqa: E402
    tangential_classifier_free_guidance as tangential,
)
from diffusers.guiders.guider_utils import rescale_noise_cfg  # noqa: E402

SCALE, AT = 4.0, FLOW.at(TAU, 5)
RNG = np.random.default_rng(0)
STRONG, WEAK = (
    Prediction.of("x0", jnp.asarray(RNG.normal(size=X.shape) + 0.3 * np.asarray(X), jnp.float32), X, AT)
    for _ in range(2)
)


def frames(x):
    """(b, t, h, w, c) as one batch of pictures, channels first: their statistics are those of each frame."""
    return torch.tensor(np.moveaxis(np.asarray(x).reshape(-1, *x.shape[2:]), -1, 1).copy())


def check(rule, expected, of=flow, rtol=2e-4):
    found = rule.combine(STRONG, WEAK, jnp.asarray(SCALE - 1), AT, TAU[..., None, None, None])
    np.testing.assert_allclose(frames(of(found)), expected, rtol=rtol, atol=rtol)


def x0(pair):
    return pair.x0


def test_plain():
    strong, weak = frames(x0(STRONG)), frames(x0(WEAK))
    check(ClassifierFree(), weak + SCALE * (strong - weak), x0)


def test_rescaled():
    """diffusers takes the unbiased deviation, which cancels in the ratio."""
    strong, weak = frames(x0(STRONG)), frames(x0(WEAK))
    check(Rescaled(phi=0.7), rescale_noise_cfg(weak + SCALE * (strong - weak), strong, 0.7), x0)


@pytest.mark.parametrize(("eta", "limit"), [(0.0, None), (0.3, 0.5)])
def test_apg(eta, limit):
    strong, weak = frames(x0(STRONG)), frames(x0(WEAK))
    threshold = 0.0 if limit is None else limit * strong[0].numel() ** 0.5
    expected = apg.normalized_guidance(
        strong, weak, SCALE - 1, eta=eta, norm_threshold=threshold, use_original_formulation=True
    )
    check(APG(eta=eta, limit=limit), expected, x0)


def test_cfg_zero():
    strong, weak = frames(flow(STRONG)), frames(flow(WEAK))
    best = zero.cfg_zero_star_scale(strong.flatten(1), weak.flatten(1)).view(-1, 1, 1, 1)
    check(CFGZero(zero=0.0), best * weak + SCALE * (strong - best * weak))


def test_tangential():
    strong, weak = frames(flow(STRONG)), frames(flow(WEAK))
    check(Tangential(), tangential.normalized_guidance(strong, weak, SCALE))


def test_mambo():
    strong, weak = frames(flow(STRONG)), frames(flow(WEAK))
    flat = mambo.mambo_guidance(strong.flatten(1), weak.flatten(1), SCALE, alpha=2.0)  # no norms of more axes
    check(MAMBO(damping=2.0), flat.reshape(strong.shape))
