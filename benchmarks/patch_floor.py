"""What ITEm's losses of patches come to without looking at the picture: the floor that learning has to go below.

    python -m benchmarks.patch_floor --data=DATA --config=sample

L1 between normalised patches of augmented training pictures and (a) zero, (b) the median patch, (c) the median patch
of its position. Medians are those of half of the pictures, distances those of the other half; flat patches are left
out, as in training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from configs import item
from ecommerce_vl.data.images import Augment, ImagePipeline
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.losses.tokens import patch_targets
from ecommerce_vl.models.vision import normalise, patches_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that prepare wrote")
    parser.add_argument("--config", default="sample", help="argument of configs/item.py")
    parser.add_argument("--pictures", type=int, default=1_000)
    args = parser.parse_args()
    config = item.get_config(args.config)
    pipeline, augment = ImagePipeline.of(config.image), Augment(**config.augment.to_dict())
    records = PreparedData(args.data).records("train", pairs_only=True)
    rows = np.random.default_rng(0).permutation(len(records))[: args.pictures]
    view = lambda row: pipeline(records[row]["images"][0], rng=np.random.default_rng(row), augment=augment)
    pixels = normalise(jnp.asarray(np.stack([view(int(row)) for row in rows])), mean=pipeline.mean, std=pipeline.std)
    patches = patches_of(pixels, config.image.patch_size)
    target, shows = map(np.asarray, patch_targets(patches.reshape(len(rows), -1, patches.shape[-1]), normalise=True))

    half, num_positions = len(rows) // 2, target.shape[1]
    median = lambda chosen: np.median(target[:half][chosen], axis=0)
    at = lambda position: shows[:half] & (np.arange(num_positions) == position)
    guesses = {
        "zero": np.zeros(target.shape[1:]),
        "the median patch": np.broadcast_to(median(shows[:half]), target.shape[1:]),
        "the median patch of its position": np.stack([median(at(position)) for position in range(num_positions)]),
    }
    print(f"{len(rows):,} pictures of {args.data}, {1 - shows.mean():.1%} of the patches are flat")
    for name, guess in guesses.items():
        print(f"{name:<34} {np.abs(target - guess)[half:][shows[half:]].mean():.3f}")


if __name__ == "__main__":
    main()
