"""Metrics: arrays in, `Score`s out, each with its n, seed, feature extractor and the floor that real data set."""

from diorama.evaluate.classifier import Judge, multi_hot, right, train_judge
from diorama.evaluate.coverage import precision_recall
from diorama.evaluate.enlargement import enlarged_scores
from diorama.evaluate.evaluate import direction_score, generation_scores, label_score, memorisation_score
from diorama.evaluate.features import Features, pixels, quantise
from diorama.evaluate.frechet import Moments, frechet_distance
from diorama.evaluate.kernel import kernel_distance
from diorama.evaluate.memorisation import Memorised, memorisation
from diorama.evaluate.motion import directions, velocities
from diorama.evaluate.reconstruction import flicker, jpeg_at, ms_ssim, psnr, reconstruction_scores, scales, ssim
from diorama.evaluate.score import Score, from_json, read_scores, table, to_json

__all__ = [
    "Features",
    "Judge",
    "Memorised",
    "Moments",
    "Score",
    "direction_score",
    "directions",
    "enlarged_scores",
    "flicker",
    "frechet_distance",
    "from_json",
    "generation_scores",
    "jpeg_at",
    "kernel_distance",
    "label_score",
    "memorisation",
    "memorisation_score",
    "ms_ssim",
    "multi_hot",
    "pixels",
    "precision_recall",
    "psnr",
    "quantise",
    "read_scores",
    "reconstruction_scores",
    "right",
    "scales",
    "ssim",
    "table",
    "to_json",
    "train_judge",
    "velocities",
]
