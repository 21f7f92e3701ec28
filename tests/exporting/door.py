"""Runs a door with the fake encoder in place of a trained run: python door.py export SPACE --flags."""

import runpy
import sys

from fake_encoder import FakeEncoder

import ecommerce_vl

door, space = sys.argv[1:3]
ecommerce_vl.load = lambda workdir: FakeEncoder(space_id=space)
sys.argv = [door, *sys.argv[3:]]
runpy.run_module(f"ecommerce_vl.{door}", run_name="__main__")
