"""The sub-word tokenizer: trained on the catalog, or taken from a Hugging Face folder; one `tokenizer.json`.

Invariant: the same file gives the same ids everywhere; its digest lies in every checkpoint and is compared before a
run goes on. Byte-level pairs, so that no script and no stray byte is ever unknown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ecommerce_vl.data.text import SEPARATOR
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import write_text

FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"  # the second only in folders of Hugging Face
PAD, CLS, SEP, MASK = "[PAD]", "[CLS]", "[SEP]", "[MASK]"
PAD_NAMES = (PAD, "<pad>", "<|pad|>", "<|endoftext|>")
MASK_NAMES = (MASK, "<mask>")


class TextTokenizer:
    """Turns texts into fixed-length ids; picklable, so that loader workers can carry it."""

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, pad: str | None = None):
        """`pad` is the padding token; by default the one that the tokenizer pads with, else the first usual one."""
        self.max_length = max_length
        names = (pad, (tokenizer.padding or {}).get("pad_token"), *PAD_NAMES)
        pad = next((name for name in names if name and tokenizer.token_to_id(name) is not None), None)
        if pad is None:
            raise UserError(f"the tokenizer has no padding token; expected one of {', '.join(PAD_NAMES)}")
        self.pad_id = tokenizer.token_to_id(pad)
        tokenizer.enable_truncation(max_length)
        tokenizer.enable_padding(pad_id=self.pad_id, pad_token=pad, length=max_length)
        self._tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding table needs: the largest id plus one."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def special_ids(self) -> dict[str, int]:
        """Name -> id of every special token; "mask" is the one that hides a word, where the tokenizer has it."""
        added = self._tokenizer.get_added_tokens_decoder()
        special = {token.content: number for number, token in sorted(added.items()) if token.special}
        return {"mask" if name in MASK_NAMES else name: number for name, number in special.items()}

    @property
    def separator(self) -> str:
        """What stands between the fields of a text: the token for it, or a comma where a published one has none."""
        return SEPARATOR if self._tokenizer.token_to_id(SEP) is not None else ", "

    def of_length(self, max_length: int) -> TextTokenizer:
        """The same tokenizer for texts of another length."""
        return TextTokenizer(Tokenizer.from_str(self._tokenizer.to_str()), max_length=max_length)

    def __call__(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids (N,L) int32 and mask (N,L) bool; an empty text has an empty mask."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))  # without offsets in the text, which nobody reads
        ids = np.array([item.ids for item in encoded], np.int32).reshape(len(texts), self.max_length)
        mask = np.array([item.attention_mask for item in encoded], bool).reshape(len(texts), self.max_length)
        return ids, mask & np.array([bool(text.strip()) for text in texts], bool)[:, None]

    def counts(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """`tokens` of each text before truncation, how many are `unknown`, and `special` ones added; all int32 (N,)."""
        whole = Tokenizer.from_str(self._tokenizer.to_str())  # loader threads may be using the one that truncates
        whole.no_truncation()
        whole.no_padding()
        unknown = whole.token_to_id(getattr(whole.model, "unk_token", None) or "")
        special = whole.num_special_tokens_to_add(is_pair=False)
        ids = [encoded.ids for encoded in whole.encode_batch_fast(list(texts))]
        return {
            "tokens": np.array([len(row) - special for row in ids], np.int32),
            "unknown": np.array([row.count(unknown) for row in ids], np.int32),
            "special": np.full(len(ids), special, np.int32),
        }

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Tokens of each text before truncation, special tokens included; int32 (N,)."""
        counts = self.counts(texts)
        return counts["tokens"] + counts["special"]

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` into the folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE, self._tokenizer.to_str(pretty=True))


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, max_length: int) -> TextTokenizer:
    """A lower-casing byte-level BPE tokenizer with [CLS], [SEP] and [MASK], learnt from the texts in their order."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[PAD, CLS, SEP, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (CLS, SEP)],
    )
    return TextTokenizer(tokenizer, max_length=max_length)


def load_tokenizer(folder: Path, *, max_length: int) -> TextTokenizer:
    """The tokenizer of a run directory or of a Hugging Face folder.

    Errors: UserError if the folder has no readable `tokenizer.json`.
    """
    file = folder / FILE
    try:
        tokenizer, config = Tokenizer.from_file(str(file)), folder / CONFIG_FILE
        fields = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
        pad = fields.get("pad_token")
        if fields.get("tokenizer_class", "").startswith("Siglip2"):  # its class lowers, not its tokenizer.json
            lower = normalizers.Lowercase()
            rest = [tokenizer.normalizer] if tokenizer.normalizer else []
            tokenizer.normalizer = normalizers.Sequence([lower, *rest])
        return TextTokenizer(tokenizer, max_length=max_length, pad=pad["content"] if isinstance(pad, dict) else pad)
    except UserError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"no readable tokenizer at {file}: {error}; expected a folder with {FILE}") from error


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of the folder's `tokenizer.json`."""
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()
