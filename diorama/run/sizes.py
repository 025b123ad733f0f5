"""The dial: a run whose transformer is of another size, with what must follow from it.

The rule. Width, depth and heads come from the family (`net.sizes`). The learning rate stays the number that the recipe
says, because its optimiser is told for which width that was chosen, and moves hidden matrices accordingly (muP,
`train.optimizer.Widened`). The batch stays too: the batch that pays grows with how long one trains, not with the size
(McCandlish et al. 2018, arXiv 1812.06162); who changes it changes the learning rate with its square root (Malladi et
al. 2022, arXiv 2205.10287). Examples, averages (relative widths) and noise stay as they are.
"""

from dataclasses import replace

from diorama.core.errors import UserError
from diorama.net import TransformerConfig
from diorama.net.sizes import sized
from diorama.run.run import Run
from diorama.train.optimizer import Widened


def resized(run: Run, size: str) -> Run:
    """The run with its denoiser in another size of the family.

    Raises `UserError` where the network is no transformer, or there is no such size.
    """
    stage = run.denoiser
    net = stage.denoiser.net
    if not isinstance(net, TransformerConfig):
        raise UserError(
            f"sizes are those of transformers, and the network of '{run.name}' is a {type(net).__name__}: "
            "set denoiser.denoiser.net=TransformerConfig first"
        )
    new, before = sized(net, size), stage.train.optimizer
    tuned = before.width.tuned if before.width else net.width
    train = replace(stage.train, optimizer=replace(before, width=Widened(tuned, new.width)))
    return replace(run, denoiser=replace(stage, denoiser=replace(stage.denoiser, net=new), train=train))
