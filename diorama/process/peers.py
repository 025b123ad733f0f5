"""What well-known models are trained for: the process, weighting and density of each, to compare others with.

Together they decide the effective weight w(logsnr) (`weighting.effective`), which is all that the expected loss depends
on: up to a factor, the table of Kingma & Gao 2023 (arXiv 2303.00848). Levels are those of the data as each has them:
EDM's pixels have a standard deviation of 0.5.
"""

from diorama.process.density import Density, LogitNormal, LogNormal, Uniform
from diorama.process.gaussian import EDM, CosineVP, Process, RectifiedFlow
from diorama.process.weighting import EDM as EDMWeighting
from diorama.process.weighting import Epsilon, MinSNR, Sigmoid, Velocity, Weighting

PEERS: dict[str, tuple[Process, Weighting, Density]] = {
    "DDPM, cosine": (CosineVP(), Epsilon(), Uniform()),  # sech(logsnr/2)
    "min-SNR 5": (CosineVP(), MinSNR(5.0), Uniform()),  # sech(logsnr/2) min(1, 5 / snr)
    "flow matching": (RectifiedFlow(), Velocity(), Uniform()),  # exp(-logsnr/2)
    "SD3": (RectifiedFlow(), Velocity(), LogitNormal()),
    "EDM": (EDM(), EDMWeighting(), LogNormal(-1.2, 1.2)),  # N(2.4, 2.4^2) (exp(-logsnr) + 1/4)
    "sigmoid 2": (CosineVP(), Sigmoid(2.0), Uniform()),  # sigmoid(2 - logsnr): SiD2
}
