"""What transformers makes of the small models; needs torch. Writes the golden files:

python tests/pretrained/published.py
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
import small

GOLDEN = Path(__file__).parents[1] / "golden"
CLASSES = {"bert": "Bert", "vit": "ViT", "clip": "CLIP", "siglip": "Siglip", "siglip2": "Siglip2"}


def model_of(family):
    """The model in float32 with the weights of the seed, and {key: shape} as its safetensors have them."""
    name = CLASSES[family]
    config = getattr(transformers, f"{name}Config")(**small.CONFIGS[family])
    with tempfile.TemporaryDirectory() as folder:
        getattr(transformers, f"{name}Model")(config).save_pretrained(folder)
        file = Path(folder) / "model.safetensors"
        shapes = {key: list(leaf.shape) for key, leaf in load_file(file).items()}
        save_file(small.weights(shapes), file, metadata={"format": "pt"})
        return getattr(transformers, f"{name}Model").from_pretrained(folder).eval(), shapes


def pixels(side):
    return torch.from_numpy((small.pictures(side) / 255 - 0.5) / 0.5).float().permute(0, 3, 1, 2)


def patches(side, size=8):
    grid = pixels(side).permute(0, 2, 3, 1).reshape(2, side // size, size, side // size, size, 3)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(2, (side // size) ** 2, -1)


def outputs(family, model):
    """{name: float32 array} of what is compared."""
    ids, mask = (torch.from_numpy(x) for x in small.padded())
    pooled = lambda out: getattr(out, "pooler_output", out)
    with torch.no_grad():
        if family == "bert":
            out = model(input_ids=ids, attention_mask=mask)
            states, weight = out.last_hidden_state, mask[:, :, None]
            found = {"mean": (states * weight).sum(1) / weight.sum(1), "cls": states[:, 0], "pooler": out.pooler_output}
        elif family == "vit":
            out, large = (model(pixels(side), interpolate_pos_encoding=True) for side in (16, 32))
            found = {"cls": out.last_hidden_state[:, 0], "pooler": out.pooler_output}
            found["cls_32"] = large.last_hidden_state[:, 0]
        else:
            masks = {"attention_mask": mask} if family == "clip" else {}
            found = {"text": pooled(model.get_text_features(input_ids=ids, **masks))}
            for name, side in (("image", 16), ("image_32", 32)):
                if family == "siglip2":
                    n = (side // 8) ** 2
                    given = {
                        "pixel_values": patches(side),
                        "pixel_attention_mask": torch.ones(2, n, dtype=torch.long),
                        "spatial_shapes": torch.tensor([[side // 8, side // 8]] * 2),
                    }
                else:
                    given = {"pixel_values": pixels(side), "interpolate_pos_encoding": True}
                found[name] = pooled(model.get_image_features(**given))
    return {name: array.numpy().astype(np.float32) for name, array in found.items()}


def golden(family):
    """What the golden file of a family holds."""
    model, shapes = model_of(family)
    found = {name: np.round(array.astype(float), 7).tolist() for name, array in outputs(family, model).items()}
    return {"shapes": shapes, "outputs": found}


if __name__ == "__main__":
    for family in small.CONFIGS:
        (GOLDEN / f"pretrained-{family}.json").write_text(json.dumps(golden(family)) + "\n")
