"""How a run reads records: its tokenizer, and what turns records into the arrays of a batch, as the config says.

Invariant: the tokenizer of a run is made once and lies in the run directory; whatever reads the run reads with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecommerce_vl.data.batches import ToExample
from ecommerce_vl.data.images import Augment, ImagePipeline
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.text import SEPARATOR, TextTemplate
from ecommerce_vl.data.tokenizer import FILE as TOKENIZER_FILE
from ecommerce_vl.data.tokenizer import TextTokenizer, load_tokenizer, train_tokenizer


def run_tokenizer(config, workdir: Path, data: PreparedData, *, keep: bool) -> TextTokenizer:
    """The run's tokenizer: of the run directory, else of the configured folder, else trained on the train split.

    Args:
      keep: the one in the run directory, if there is one, is this run's.

    Errors: UserError for a folder without a tokenizer; ValueError that begins with the key of the config.
    """
    text = config["text"]
    folder = workdir / "tokenizer"
    if not keep or not (folder / TOKENIZER_FILE).exists():
        if text["tokenizer"]:
            tokenizer = load_tokenizer(Path(text["tokenizer"]), max_length=text["max_length"])
        else:
            records = data.records("train")
            template = _template(config, SEPARATOR)
            texts = (template.enriched(records[row]) for row in range(len(records)))
            tokenizer = train_tokenizer(texts, vocab_size=text["vocab_size"], max_length=text["max_length"])
        tokenizer.save(folder)
    return load_tokenizer(folder, max_length=text["max_length"])


def example_reader(config: Mapping[str, Any], pipeline: ImagePipeline, tokenizer: TextTokenizer) -> ToExample:
    """What makes arrays of records for training: `augment`, `text`, dropout and choice of pictures of the config.

    Args:
      pipeline: how pictures are read.
      tokenizer: of the run; queries are cut to `text.query_length`, where there is one.

    Errors: ValueError that begins with the key of the config.
    """
    augment = Augment(**{name: tuple(v) if isinstance(v, list) else v for name, v in config["augment"].items()})
    choices = {name: config["data"][name] for name in ("image_dropout", "text_dropout", "any_image")}
    query_length = config["text"].get("query_length")
    return ToExample(
        image=pipeline,
        augment=augment,
        template=_template(config, tokenizer.separator),
        tokenizer=tokenizer,
        query_tokenizer=tokenizer.of_length(query_length) if query_length else None,
        **choices,
    )


def _template(config, separator: str) -> TextTemplate:
    text = config["text"]
    return TextTemplate(
        fields=tuple(text["fields"]),
        field_dropout=text["field_dropout"],
        word_dropout=text["word_dropout"],
        separator=separator,
    )
