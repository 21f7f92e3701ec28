"""The annotated pairs of eSSPR: a file of that format becomes products and judgements, and nothing is lost unseen."""

import json

import pytest

from ecommerce_vl.data.feed import feed_sources, read_rows
from ecommerce_vl.data.formats.esspr import read_pairs, write
from ecommerce_vl.errors import UserError

HEADER = "cate_lv1_name,cate_name,trigger_id,{title},recall_id,recall_title,trigger_img,recall_img,label\n"
ROWS = """Tools,Screws,t1,304# stainless screw,r1,201# stainless screw,http://a/1.jpg,http://a/2.jpg,1
Tools,Screws,t1,304# stainless screw,r2,brass nut,http://a/1.jpg,,0
Home,Bottles,t2,"steel bottle, blue",r1,201# stainless screw,http://a/4.jpg,http://a/2.jpg,1
Home,Bottles,t2,"steel bottle, blue",r1,201# stainless screw,http://a/4.jpg,http://a/2.jpg,1
Home,Bottles,t2,"steel bottle, blue",r1,201# stainless screw,http://a/4.jpg,http://a/2.jpg,0
Home,Bottles,t2,x,t2,x,http://a/4.jpg,http://a/4.jpg,1
Home,Bottles,,x,r9,x,http://a/4.jpg,http://a/4.jpg,1
Home,Bottles,t3,x,r9,x,http://a/4.jpg,http://a/4.jpg,?
"""


def read(tmp_path, text):
    file = tmp_path / "eval.csv"
    file.write_text(text)
    return read_pairs(read_rows(feed_sources(str(file))[0]), name="eval.csv")


@pytest.mark.parametrize("title", ["tirgger_title", "trigger_title"])
def test_a_file_becomes_products_and_judgements(tmp_path, title):
    judged = read(tmp_path, HEADER.format(title=title) + ROWS)
    assert judged.judgements == [("t1", "r1", True), ("t1", "r2", False), ("t2", "r1", True)]
    assert judged.products["t2"] == {
        "id": "t2", "title": "steel bottle, blue", "image_link": "http://a/4.jpg", "product_type": "Home > Bottles",
    }  # fmt: skip
    assert judged.counts() == {
        "judged": 3, "positives": 2, "triggers": 2, "products": 4, "with_link": 3, "industries": 2, "categories": 2,
        "refused": {"contradicting": 1, "no_id": 1, "no_label": 1, "one_product": 1, "repeated": 1},
    }  # fmt: skip
    assert len(judged.judgements) + sum(judged.refused.values()) == len(ROWS.splitlines())
    write(judged, tmp_path / "feed")
    lines = (tmp_path / "feed" / "judgements.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"trigger": "t1", "recall": "r2", "label": False}
    feed = feed_sources(str(tmp_path / "feed" / "products.jsonl"))[0]
    assert [row["id"] for row in read_rows(feed)] == ["t1", "r1", "r2", "t2"]


def test_another_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no column cate_lv1_name, found id, title; expected the eSSPR"):
        read(tmp_path, "id,title\n1,x\n")
    with pytest.raises(UserError, match="no pair with label 1"):
        read(tmp_path, HEADER.format(title="trigger_title") + ROWS.splitlines()[1] + "\n")
