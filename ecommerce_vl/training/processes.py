"""The processes of one run: who is here, who is missing, who died, and when all stop.

Process 0 is the hub: every other process holds one TCP connection to it, opened before JAX is initialised and closed
last. JAX's own coordination service aborts a process that waits for a peer, with a stack trace and no name; the
connection is what names the peer. It carries one JSON object a line: hello, beats with the step, barriers, the step
that all stop at, and the last sentence of whoever leaves early. No array travels here; those meet in `losses/`.

Invariants: nothing waits without a bound (`roll_call_s` for a peer to come, `heartbeat_s` for one that falls silent,
`hang_s` for one that makes no step); a process that ends tells the others why, and one that is killed is named by the
connection that it leaves open; all processes stop before the same step.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ecommerce_vl.errors import UserError
from ecommerce_vl.training.place import Place

HUB_PORT_OFFSET = 1  # the hub listens at the coordinator's port plus this
LEAVE_S = 3.0  # after a failure: for the sentence to reach the others, and for the exit hooks of JAX


class Alone:
    """One process: the members of `Team`, without anybody to wait for."""

    is_main, num_processes = True, 1

    def main_first(self) -> None:
        pass

    def main_done(self) -> None:
        pass

    def stops_at(self, step: int, signal_name: str | None) -> str | None:
        return signal_name

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, *_error) -> None:
        pass


ALONE = Alone()


class _Line:
    """One TCP connection that carries JSON objects; `receive` gives None at its end."""

    def __init__(self, connection: socket.socket, *, silence_s: float):
        connection.settimeout(silence_s)
        self._connection, self._reader = connection, connection.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        try:
            with self._lock:
                self._connection.sendall((json.dumps(message) + "\n").encode())
        except OSError:
            pass  # the reader of this line sees its end and says whose it was

    def receive(self) -> dict[str, Any] | None:
        """The next message; None once the other side is gone.

        Errors: TimeoutError if it is silent for too long.
        """
        try:
            line = self._reader.readline()
        except TimeoutError:
            raise
        except (OSError, ValueError):
            return None
        return json.loads(line) if line.endswith("\n") else None


class Team:
    """The processes of a run, from the roll-call to the last save; a context manager around the work.

    Args:
      place: of this process.
      roll_call_s: how long to wait for all to come.
      heartbeat_s: a peer that is silent for so long is taken for dead; a killed one is seen at once.
      hang_s: without a step of any process for so long, the run ends and the processes that are behind are named; 0
        waits for ever. It must be longer than compilation and restore.
      say: receives the last sentence, on the way out.

    Errors: UserError that names every process that did not come.
    """

    def __init__(
        self, place: Place, *, roll_call_s: float, heartbeat_s: float, hang_s: float, say: Callable[[str], None]
    ):
        self.place, self.num_processes, self.is_main = place, place.num_processes, place.process_id == 0
        self._roll_call_s, self._heartbeat_s, self._hang_s, self._say = roll_call_s, heartbeat_s, hang_s, say
        self._lines: dict[int, _Line] = {}  # the hub's to all others, or any other's to the hub
        self.hosts = {place.process_id: socket.gethostname()}
        self._changed = threading.Condition()
        self._steps = {process: -1 for process in range(place.num_processes)}
        self._moved_s = time.monotonic()
        self._heard_s: dict[int, float] = {}  # of each process that has a line to this one
        self._reached: dict[str, set[int]] = {}  # barrier -> who stands at it (the hub's book)
        self._open: set[str] = set()  # barriers that all have reached
        self._stop: str | None = None  # the signal that asks all to stop
        self._stop_steps: dict[int, int] = {}
        self._stop_at: int | None = None
        self._barriers, self._closing = 0, False
        (self._call_the_roll if self.is_main else self._answer_the_roll)()
        for process, line in self._lines.items():
            threading.Thread(target=self._listen, args=(process, line), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    # -- Roll-call ---------------------------------------------------------------------------------------------------
    def _address(self) -> tuple[str, int]:
        host, _, port = self.place.coordinator.rpartition(":")
        return host.strip("[]"), int(port) + HUB_PORT_OFFSET

    def _call_the_roll(self) -> None:
        deadline_s = time.monotonic() + self._roll_call_s
        port = self._address()[1]
        try:
            server = socket.create_server(("", port), backlog=self.num_processes)
        except OSError as error:
            raise UserError(
                f"--coordinator={self.place.coordinator}: port {port} here cannot be opened ({error.strerror}); "
                "process 0 listens at the given port and at the next one, so choose two that are free"
            ) from error
        with server:
            while len(self._lines) < self.num_processes - 1:
                server.settimeout(max(deadline_s - time.monotonic(), 0.01))
                try:
                    line = _Line(server.accept()[0], silence_s=5.0)
                    hello = line.receive()
                except TimeoutError:
                    if time.monotonic() < deadline_s:
                        continue
                    break
                self._welcome(line, hello)
        missing = [process for process in range(self.num_processes) if process not in self.hosts]
        if missing:
            here = ", ".join(f"{process} on {host}" for process, host in sorted(self.hosts.items()))
            sentence = (
                f"{len(missing)} of {self.num_processes} processes did not come within {self._roll_call_s:g} s: "
                f"process {', '.join(map(str, missing[:8]))}{' and others' if len(missing) > 8 else ''} "
                f"(here: {here}); start one process for each --process_id, with the same --coordinator, "
                "or raise --roll_call_s"
            )
            self._tell(ended=sentence)
            raise UserError(sentence)
        self._tell(hosts=self.hosts)

    def _welcome(self, line: _Line, hello: dict[str, Any] | None) -> None:
        if not hello or "process" not in hello:
            return  # a port scan, or a process that gave up
        process = hello["process"]
        if hello["num_processes"] != self.num_processes or process in self.hosts:
            problem = (
                f"it has --num_processes={hello['num_processes']}, process 0 has {self.num_processes}"
                if process not in self.hosts
                else f"that --process_id is taken by one on {self.hosts[process]}"
            )
            sentence = (
                f"process {process} on {hello['host']} was turned away: {problem}; give each its own --process_id"
            )
            line.send(ended=sentence)
            self._tell(ended=sentence)
            raise UserError(sentence)
        line._connection.settimeout(self._heartbeat_s)
        self._lines[process], self.hosts[process] = line, hello["host"]

    def _answer_the_roll(self) -> None:
        address, deadline_s = self._address(), time.monotonic() + self._roll_call_s
        while True:
            try:
                connection = socket.create_connection(address, timeout=5.0)
                break
            except OSError as error:
                if time.monotonic() > deadline_s:
                    raise UserError(
                        f"process 0 did not come within {self._roll_call_s:g} s: nothing answers at "
                        f"{address[0]}:{address[1]} ({error}); start it, open the port, or raise --roll_call_s"
                    ) from error
                time.sleep(0.2)
        # Until all are here the hub only waits; it says so itself when it gives up.
        line = _Line(connection, silence_s=self._roll_call_s + 10)
        line.send(
            process=self.place.process_id, num_processes=self.num_processes, host=self.hosts[self.place.process_id]
        )
        try:
            answer = line.receive()
        except TimeoutError:
            answer = None
        if answer is None or "ended" in answer:
            gone = "process 0 ended during the roll-call; see its output, mend what it says and start all again"
            raise UserError(answer["ended"] if answer else gone)
        self.hosts = {int(process): host for process, host in answer["hosts"].items()}
        connection.settimeout(self._heartbeat_s)
        self._lines[0] = line

    # -- The threads -------------------------------------------------------------------------------------------------
    def name(self, process: int) -> str:
        return f"process {process} ({self.hosts.get(process, 'unknown host')})"

    def _tell(self, **message: Any) -> None:
        for line in list(self._lines.values()):
            line.send(**message)

    def _listen(self, process: int, line: _Line) -> None:
        while True:
            try:
                message = line.receive()
                why = "died: its connection is closed"
            except TimeoutError:
                message, why = None, f"is silent for {self._heartbeat_s:g} s"
            if message is None:
                if not self._closing:
                    self._end(f"{self.name(process)} {why}; see its output, then run the same command on all again")
                return
            self._heard_s[process] = time.monotonic()
            if "ended" in message:
                self._end(message["ended"])
            with self._changed:
                self._take(process, message)
                self._changed.notify_all()

    def _take(self, process: int, message: dict[str, Any]) -> None:
        """Enters a message in the book; the hub answers once all have said the same."""
        if "step" in message:
            self._note_step(process, message["step"])
        elif "signal" in message:
            self._stop = self._stop or message["signal"]
            if self.is_main:
                self._tell(signal=self._stop)
        elif "boundary" in message:
            self._stop_steps[process] = message["boundary"]
            if len(self._stop_steps) == self.num_processes:
                self._stop_at = max(self._stop_steps.values())
                self._tell(stop_at=self._stop_at)
        elif "stop_at" in message:
            self._stop_at = message["stop_at"]
        elif "barrier" in message:
            self._reached.setdefault(message["barrier"], set()).add(process)
            if len(self._reached[message["barrier"]]) == self.num_processes:
                self._open.add(message["barrier"])
                self._tell(open=message["barrier"])
        elif "open" in message:
            self._open.add(message["open"])

    def _note_step(self, process: int, step: int) -> None:
        if step > self._steps[process]:
            self._steps[process], self._moved_s = step, time.monotonic()

    def _beat(self) -> None:
        while not self._closing:
            self._tell(step=self._steps[self.place.process_id])
            if self.is_main and self._hang_s and time.monotonic() - self._moved_s > self._hang_s:
                least = min(self._steps.values())
                behind = [self.name(process) for process, step in self._steps.items() if step == least]
                self._end(
                    f"no process has made a step for {self._hang_s:g} s; the last is step {max(least, 0)} at "
                    f"{', '.join(behind[:4])}{' and others' if len(behind) > 4 else ''}; stacks are above, raise "
                    "--hang_s if a step or its compilation takes longer, else run the same command again",
                    stacks=True,
                )
            time.sleep(min(self._heartbeat_s / 5, 1.0))

    def _end(self, sentence: str, *, stacks: bool = False) -> None:
        """Ends this process at once: its main thread may sit in a collective that never returns."""
        if self.is_main:
            self._tell(ended=sentence)
        if stacks:
            faulthandler.dump_traceback(sys.stderr)
        self._say(sentence)
        os._exit(1)

    # -- What the loop asks ------------------------------------------------------------------------------------------
    def _ask(self, **message: Any) -> None:
        """Enters this process's own message where the hub keeps the book. The caller holds the lock."""
        if self.is_main:
            self._take(0, message)
        else:
            self._tell(**message)

    def barrier(self, label: str) -> None:
        """Returns once all processes are here; a peer that dies ends this process instead."""
        name = f"{label} {self._barriers}"
        self._barriers += 1
        with self._changed:
            self._ask(barrier=name)
            self._changed.wait_for(lambda: name in self._open)

    def main_first(self) -> None:
        """Lets process 0 through and holds the others until it calls `main_done`."""
        if not self.is_main:
            self.barrier("main first")

    def main_done(self) -> None:
        if self.is_main:
            self.barrier("main first")

    def stops_at(self, step: int, signal_name: str | None) -> str | None:
        """The name of a signal once all processes are to stop before `step`, else None; called after every step.

        A signal at any one of them asks all. Each then says how far it is and waits for the others; the largest answer
        is the step that all go on to, so none is left in a step whose collectives the others never enter.
        """
        with self._changed:
            self._note_step(self.place.process_id, step)
            if signal_name and self._stop is None:
                self._stop = signal_name
                self._tell(signal=signal_name)
            if self._stop is None:
                return None
            if self._stop_at is None:
                self._ask(boundary=step)
                self._changed.wait_for(lambda: self._stop_at is not None)
            return self._stop if step >= self._stop_at else None

    def _silent(self) -> str:
        """Who has missed some beats, said aloud: a collective gives up on a peer that hangs before `hang_s` does."""
        now_s = time.monotonic()
        late = {process: now_s - heard_s for process, heard_s in self._heard_s.items() if now_s - heard_s > 2 * LEAVE_S}
        if not late:
            return ""
        found = ", ".join(f"{self.name(process)} is silent for {late_s:.0f} s" for process, late_s in late.items())
        self._say(f"{found}; see its output, then run the same command on all again")
        return f"; {found}"

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind, error, _trace) -> None:
        import jax

        if error is None:
            self.barrier("done")
            self._closing = True
            jax.distributed.shutdown()
            return
        if not isinstance(error, UserError):
            time.sleep(LEAVE_S)  # a collective fails first where a peer died; its line then names it and ends this one
        reason = " ".join(str(error).split())[:300] + self._silent()
        self._tell(ended=f"{self.name(self.place.process_id)} ended: {kind.__name__}: {reason}")
        self._closing = True
        # The exit hooks of JAX wait for peers that are gone.
        timer = threading.Timer(LEAVE_S, os._exit, (1,))
        timer.daemon = True
        timer.start()


def join(
    place: Place | None,
    *,
    roll_call_s: float,
    heartbeat_s: float,
    hang_s: float,
    say: Callable[[str], None],
    log: Callable[[str], None] = print,
) -> Team | Alone:
    """Calls the roll and initialises JAX across processes; before anything touches a device.

    Args: those of `Team`; `place` is None for a single process.

    Returns: the team, whose `is_main` says who writes logs, metrics and files.

    Errors: UserError that names who is missing, or the port that cannot be opened.
    """
    if place is None:
        return ALONE
    import jax

    team = Team(place, roll_call_s=roll_call_s, heartbeat_s=heartbeat_s, hang_s=hang_s, say=say)
    jax.distributed.initialize(
        place.coordinator,
        place.num_processes,
        place.process_id,
        local_device_ids=list(place.local_device_ids) if place.local_device_ids else None,
        cluster_detection_method="deactivate",
        initialization_timeout=int(roll_call_s) + 10,
        # JAX's own limit is behind ours, which has the names.
        heartbeat_timeout_seconds=int(2 * heartbeat_s) + 10,
        shutdown_timeout_seconds=int(heartbeat_s) + 10,
    )
    if team.is_main:
        counts = {process: 0 for process in team.hosts}
        for device in jax.devices():
            counts[device.process_index] += 1
        here = ", ".join(f"{process} on {team.hosts[process]} ({count})" for process, count in sorted(counts.items()))
        log(f"processes {len(counts)} of {place.num_processes} here, with devices: {here}")
    return team
