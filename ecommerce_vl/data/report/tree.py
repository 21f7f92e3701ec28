"""The category tree from the paths of products."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ecommerce_vl.data.record import CATEGORY_SEPARATOR

MAX_DEPTH = 7  # levels; what lies deeper is shown on the last one, by the rest of its path
MAX_CHILDREN = 60  # shown of a node


@dataclasses.dataclass
class Node:
    """One category: its products and those below it.

    Args:
      products, with_image, train: counts, of the subtree.
      children: the largest first.
      hidden, hidden_products: children beyond `MAX_CHILDREN`, and what they hold.
    """

    name: str
    products: int = 0
    with_image: int = 0
    train: int = 0
    children: list[Node] = dataclasses.field(default_factory=list)
    hidden: int = 0
    hidden_products: int = 0


def category_tree(paths: Iterable[Mapping[str, Any]]) -> Node:
    """The root over all paths.

    Args:
      paths: `path` "A > B > C", `products`, `with_image`, `train`.
    """
    root = Node("")
    places: dict[tuple[str, ...], Node] = {(): root}
    for row in paths:
        levels = row["path"].split(CATEGORY_SEPARATOR, MAX_DEPTH - 1)
        for depth in range(len(levels) + 1):
            place = tuple(levels[:depth])
            if place not in places:
                places[place] = Node(levels[depth - 1])
                places[place[:-1]].children.append(places[place])
            for name in ("products", "with_image", "train"):
                setattr(places[place], name, getattr(places[place], name) + row[name])
    for node in places.values():
        node.children.sort(key=lambda child: (-child.products, child.name))
        beyond = node.children[MAX_CHILDREN:]
        node.hidden, node.hidden_products = len(beyond), sum(child.products for child in beyond)
        del node.children[MAX_CHILDREN:]
    return root
