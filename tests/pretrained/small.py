"""Small models of every family: config.json, weights from a seed, inputs; the same for transformers and for us."""

import zlib

import numpy as np

BLOCKS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
WORDS = {"vocab_size": 60, "max_position_embeddings": 12}
PICTURES = {"image_size": 16, "patch_size": 8}
CONFIGS = {
    "bert": {"model_type": "bert", **BLOCKS, **WORDS},
    "vit": {"model_type": "vit", **BLOCKS, **PICTURES},
    "clip": {
        "model_type": "clip",
        "projection_dim": 8,
        "text_config": {**BLOCKS, **WORDS, "eos_token_id": 59},
        "vision_config": {**BLOCKS, **PICTURES},
    },
    "siglip": {
        "model_type": "siglip",
        "text_config": {**BLOCKS, **WORDS},
        "vision_config": {**BLOCKS, **PICTURES},
    },
    "siglip2": {
        "model_type": "siglip2",
        "text_config": {**BLOCKS, **WORDS},
        "vision_config": {**BLOCKS, "patch_size": 8, "num_patches": 4},
    },
}
IDS = ([5, 17, 33, 2, 40, 59], [7, 59], [11, 3, 28, 50, 9, 31, 4, 44, 21, 6, 13, 59])  # 59 is CLIP's [EOS]
LENGTH = 12


def weights(shapes):
    """{key: float32 array}, large enough that every layer and every bias shows."""
    made = {}
    for key, shape in shapes.items():
        noise = np.random.default_rng(zlib.crc32(key.encode())).normal(0.0, 0.25, shape)
        made[key] = np.asarray(noise + (len(shape) == 1 and key.endswith("weight")), np.float32)
    return made


def pictures(side):
    """uint8 (2,side,side,3)."""
    return np.random.default_rng(side).integers(0, 256, (2, side, side, 3)).astype(np.uint8)


def padded():
    """Ids and mask (3,12)."""
    ids = np.array([row + [0] * (LENGTH - len(row)) for row in IDS])
    return ids, np.array([[1] * len(row) + [0] * (LENGTH - len(row)) for row in IDS])
