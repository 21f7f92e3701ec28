"""Collectives of a compiled program, read from its text.

Counted: every collective that a step executes, those in loop bodies times the loop's trip count where the text tells
it (a bound compared with a constant), else once. The TPU compiler splits one collective into several fused pieces that
share a channel: they count once. Bytes are those of the larger of result and operands on one device; wire bytes are
what a device sends in a ring: (n-1)/n of the bytes, twice that for an all-reduce.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
WIDTHS |= {"s64": 8, "u64": 8, "f64": 8, "c64": 8}
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|branch_computations|called_computations)=\{?([%\w.\-, ]+)")


@dataclasses.dataclass
class Collective:
    """Totals of one kind in one step of one device: how often, payload bytes, and bytes sent in a ring."""

    count: int = 0
    bytes: int = 0
    wire_bytes: float = 0.0


def computations(text: str) -> tuple[dict[str, list[str]], str]:
    """(name -> instruction lines, name of the entry) of an HLO module's text."""
    found: dict[str, list[str]] = {}
    entry, lines = "", None
    for line in text.splitlines():
        if head := _HEAD.match(line):
            lines = found.setdefault(head[1], [])
            entry = head[1] if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            lines = None
        elif lines is not None:
            lines.append(line)
    return found, entry


def read_collectives(text: str, *, num_devices: int) -> dict[str, Collective]:
    """Kind -> totals of a compiled module."""
    bodies, entry = computations(text)
    totals: dict[str, Collective] = {}
    for kind, size, group, times in _walk(bodies, entry, 1, num_devices, set(), ()):
        total = totals.setdefault(kind, Collective())
        total.count += times
        total.bytes += times * size
        share = 1.0 if kind == "collective-permute" else (group - 1) / group
        total.wire_bytes += times * size * share * (2 if kind == "all-reduce" else 1)
    return totals


def _walk(bodies, name: str, times: int, num_devices: int, seen: set, loops: tuple) -> Iterator[tuple]:
    for line in bodies.get(name, ()):
        if match := _COLLECTIVE.search(line):
            result, kind, start, rest = match.groups()
            channel = re.search(r"channel_id=(\d+)", rest)
            key = (kind, channel[1], loops) if channel else None
            if key is None or key not in seen:
                seen.add(key)
                shapes = _sizes(result)
                # An asynchronous start gives (operands, results); the larger of them is the payload.
                size = max(shapes, default=0) if start and kind != "all-reduce" else sum(shapes)
                group = _group(rest, num_devices)
                if kind == "reduce-scatter":
                    size *= group
                yield kind, size, group, times
        if " while(" in line:
            body, condition = re.search(r"body=%?([\w.\-]+)", line)[1], re.search(r"condition=%?([\w.\-]+)", line)[1]
            inner = times * trip_count(line, bodies.get(condition, []))
            yield from _walk(bodies, body, inner, num_devices, seen, (*loops, body))
        elif called := _CALLED.search(line):
            for other in re.findall(r"[\w.\-]+", called[1]):
                if other in bodies and other != name:
                    yield from _walk(bodies, other, times, num_devices, seen, loops)


def trip_count(line: str, condition: list[str]) -> int:
    """How often a loop runs: as the compiler noted it, else the one constant of its condition, else 1."""
    if known := re.search(r'known_trip_count"?:\{"n":"(\d+)"', line):
        return int(known[1])
    bounds = [int(n) for text in condition for n in re.findall(r"s32\[\][^=]* constant\((\d+)\)", text)]
    return bounds[0] if len(bounds) == 1 and bounds[0] > 0 else 1


def _sizes(text: str) -> list[int]:
    sizes = []
    for kind, dims in _SHAPE.findall(text):
        if kind in WIDTHS:
            size = WIDTHS[kind]
            for dim in filter(None, dims.split(",")):
                size *= int(dim)
            sizes.append(size)
    return sizes


def _group(text: str, num_devices: int) -> int:
    """Devices that take part: `{{0,1},{2,3}}`, `[4,2]<=[8]`, or all."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return listed[1].count(",") + 1
    if tiled := re.search(r"replica_groups=\[(\d+),(\d+)\]", text):
        return int(tiled[2])
    return num_devices
