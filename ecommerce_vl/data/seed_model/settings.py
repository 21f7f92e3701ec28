"""What is looked for in the vectors of a seed model, with our defaults; light, since configs import it."""

from __future__ import annotations

import dataclasses

from ecommerce_vl.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is looked for; our defaults.

    Args:
      min_category: ranked products of a category, below which those of the category above it are taken.
      duplicate_cosine: of two products of one leaf, from which on they are reported.
      max_partners: of one product in that report.
      leak_cosine: of a test product and one of train, from which on it counts.
      leak_samples: test products that are looked at.
      seed: of the samples and of k-means.
    """

    min_category: int = 200
    duplicate_cosine: float = 0.97
    max_partners: int = 10
    leak_cosine: float = 0.98
    leak_samples: int = 1_000
    seed: int = 0

    def __post_init__(self):
        """Errors: UserError that names the setting, what it is and what is expected."""
        for name in ("min_category", "max_partners", "leak_samples"):
            if getattr(self, name) < 1:
                raise UserError(f"--config.seed_model.{name} is {getattr(self, name)!r}, expected at least 1")
        if self.seed < 0:
            raise UserError(f"--config.seed_model.seed is {self.seed!r}, expected at least 0")
        for name in ("duplicate_cosine", "leak_cosine"):
            if not -1 <= getattr(self, name) <= 1:
                raise UserError(f"--config.seed_model.{name} is {getattr(self, name)!r}, expected from -1 to 1")
