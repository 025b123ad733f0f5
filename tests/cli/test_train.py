from diorama.cli.train import _traced
from recipes.digits import recipe


def test_a_trace_is_of_every_training():
    made = _traced(recipe(), 3)
    assert (made.codec.train.trace, made.denoiser.train.trace) == (3, 3)
