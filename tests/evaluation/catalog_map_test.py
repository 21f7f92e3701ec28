"""The map is reproducible, puts near what is near, and shows no adult product."""

from dataclasses import replace

import numpy as np

from ecommerce_vl.evaluation import catalog_map


def test_the_same_seed_gives_the_same_map_and_near_stays_near(splits):
    products = splits["train"]
    one, again = catalog_map.make(products, seed=3), catalog_map.make(products, seed=3)
    np.testing.assert_array_equal(one.points, again.points)
    assert one.points.min() == 0 and one.points.max() == 1 and len(one.rows) == products.present("product").sum()
    # The nearest on the plane are mostly of the same shape, as they are among the vectors.
    apart = np.linalg.norm(one.points[:, None] - one.points[None], axis=-1) + 9 * np.eye(len(one.points))
    shapes = np.array(products.category_paths)[one.rows]
    assert (shapes[apart.argmin(axis=1)] == shapes).mean() > 0.7
    assert set(one.names) == {"cup", "ball", "box"}, "one root says nothing, so the second level is coloured"


def test_adult_products_have_no_picture_on_it(splits):
    made = catalog_map.make(splits["test"])
    assert len(made.pictured) > 5
    assert not any(splits["test"].adult[made.rows[place]] == "yes" for place in made.pictured)
    assert all(splits["test"].images[made.rows[place]] for place in made.pictured)


def test_too_few_products_have_no_map(splits):
    assert catalog_map.make(splits["test"].take(range(5))) is None
    assert catalog_map.make(replace(splits["test"], vectors={})) is None
