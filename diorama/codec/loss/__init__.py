"""The losses of codec training, a component each."""

from diorama.codec.loss.alignment import Alignment
from diorama.codec.loss.critic import Adversary, Balanced, Critic, CriticConfig, Fixed
from diorama.codec.loss.latents import Equivariance, LatentNoise, LatentSpectrum
from diorama.codec.loss.learned import Learner, Network, NetworkConfig, OwnFeatures, OwnPerceptual, Views
from diorama.codec.loss.perceptual import LPIPS, Perceptual, TrunkFeatures
from diorama.codec.loss.pixel import L1, L2, Charbonnier, MultiScale, Wavelet
from diorama.codec.loss.term import Coded, Comparison, Term

__all__ = [
    "L1", "L2", "LPIPS", "Adversary", "Alignment", "Balanced", "Charbonnier", "Coded", "Comparison", "Critic",
    "CriticConfig", "Equivariance", "Fixed", "LatentNoise", "LatentSpectrum", "Learner", "MultiScale", "Network",
    "NetworkConfig", "OwnFeatures", "OwnPerceptual", "Perceptual", "Term", "TrunkFeatures", "Views", "Wavelet",
]  # fmt: skip
