"""Sessions without bots, and what a session did with a product under a query."""

from __future__ import annotations

import ibis
from ibis.expr.types import Table

HOUR_MS = 3_600_000


def cut(events: Table, *, gap_s: int) -> Table:
    """Begins a new session after every pause longer than `gap_s`; the visit's number is added to the session's hash.

    Only sessions that last longer than the pause are looked at closely, so that a log of millions of short sessions
    needs no sorting.
    """
    spans = events.group_by("session").agg(least=events.ts_ms.min(), most=events.ts_ms.max())
    long = spans.filter(spans.most - spans.least > gap_s * 1000).select("session")
    moments = events.semi_join(long, "session").select("session", "ts_ms").distinct()
    in_order = ibis.window(group_by="session", order_by="ts_ms")
    moments = moments.mutate(pause=moments.ts_ms - moments.ts_ms.lag().over(in_order))
    moments = moments.mutate(begins=(moments.pause > gap_s * 1000).fill_null(False).cast("int64"))
    until_now = ibis.window(group_by="session", order_by="ts_ms", preceding=None, following=0)
    visits = moments.select(of="session", at="ts_ms", visit=moments.begins.sum().over(until_now))
    rows = events.left_join(visits, [events.session == visits.of, events.ts_ms == visits["at"]])
    return rows.mutate(session=rows.session + rows.visit.fill_null(0).cast("int64")).drop("of", "at", "visit")


def bots(events: Table, asked: Table, *, max_clicks: int, max_queries: int) -> Table:
    """Clients (column `bot`) with more clicks or queries in a clock hour than a person has."""
    clicks = events.filter(events.action.isin(["click", "similar"]))
    return ibis.union(_busy(clicks, max_clicks), _busy(asked, max_queries), distinct=True)


def _busy(rows: Table, most: int) -> Table:
    hours = rows.group_by("client", hour=(rows.ts_ms / HOUR_MS).floor().cast("int64")).agg(events=rows.count())
    return hours.filter(hours.events > most).select(bot="client").distinct()


def without_bots(events: Table, bots: Table) -> Table:
    """Every event with `reason`: bot_listed, bot_rate, or null."""
    rows = events.left_join(bots, events.client == bots.bot)
    rate = ibis.ifelse(rows.bot.notnull(), "bot_rate", ibis.null(str))
    return rows.mutate(reason=ibis.ifelse(rows.listed, "bot_listed", rate)).drop("bot")


def interactions(events: Table) -> Table:
    """One row per (session, query_key, product): every action counts at most once, which absorbs reloads.

    Returns:
      session, client, query_key (null: none), product: int64; shown, clicked, similar, carted, purchased: int64 0 or 1;
      rank: the best; click_ts: of the first click (null: none); first_ts, last_ts: of anything but impressions.
    """
    did = {
        "shown": events.action == "impression",
        "clicked": events.action.isin(["click", "similar"]),
        "similar": events.action == "similar",
        "carted": events.action == "cart",
        "purchased": events.action == "purchase",
    }
    acted = ibis.ifelse(events.action != "impression", events.ts_ms, ibis.null("int64"))
    clicked = ibis.ifelse(did["clicked"], events.ts_ms, ibis.null("int64"))
    return events.group_by("session", "query_key", "product").agg(
        client=events.client.min(),
        **{name: said.cast("int64").max() for name, said in did.items()},
        rank=events["rank"].min(),
        click_ts=clicked.min(),
        first_ts=acted.min(),
        last_ts=acted.max(),
    )
