"""The systems: one file a paper. Each says which encoders, which losses, and how to embed.

A system is a class of a config with these members; loops, checkpoints and meshes know nothing else about it.

    System(config, vocab_size, special_ids)  reads its own fields of the config, and the symbols of the tokenizer
    .build(rngs)                          the modules
    .make_extra()                         what it carries from step to step beside parameters: banks, counters; or {}
    .encode(model, batch, rng)            {name: (B,...)}, each row of that row of the batch and of its keys alone
    .contrast(model, encoded, batch, extra, mesh) -> (scalar, metrics, extra)
    .constrain(params)                    what must hold after every update
    .embed(model, batch, views)           {view: unit vectors (B,D)} of views in `.views`
    .fusion                               how a picture and words become one vector: "norm(image + text)" of two
                                          towers (with their weights), "joint encoder" where both are read in one pass
    .shown                                (label, metric, format) of its metrics in the log line, beside the loss

The loss is `contrast` of `encode`. The cut between them is what lets the step encode a batch in streams
(`training/streams.py`): whatever compares rows, counts them or divides by their number belongs to `contrast`. A loss of
single rows, such as one of masked tokens, is encoded as its sum and its count for each row, which `contrast` divides.
"""

from __future__ import annotations

from collections.abc import Mapping

from ecommerce_vl.errors import UserError
from ecommerce_vl.systems.eclip import EClip
from ecommerce_vl.systems.gcl import GCL
from ecommerce_vl.systems.item import Item
from ecommerce_vl.systems.query_retrieval import QueryRetrieval
from ecommerce_vl.systems.same_style import SameStyle

SYSTEMS = {"eclip": EClip, "item": Item, "same_style": SameStyle, "query_retrieval": QueryRetrieval, "gcl": GCL}
NO_SYMBOLS: Mapping[str, int] = {}


def build_system(config, *, vocab_size: int, special_ids: Mapping[str, int] = NO_SYMBOLS):
    """The system that `config.system` names.

    Args:
      vocab_size: ids of the tokenizer lie below it.
      special_ids: name -> id of its special tokens; "mask" is needed by systems that mask words.

    Errors: UserError for a name that is not in `SYSTEMS`.
    """
    if config["system"] not in SYSTEMS:
        raise UserError(f"config.system is {config['system']!r}; expected one of {', '.join(SYSTEMS)}")
    return SYSTEMS[config["system"]](config, vocab_size=vocab_size, special_ids=special_ids)
