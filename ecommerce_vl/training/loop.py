"""Training, from an empty run directory or from where the last process stopped.

The order inside the loop is an invariant: read the batch of step t, run the step, and only then look at the metrics of
the step before, if it has a row, so that the device never waits: the next step is queued already. Nothing else of the
loop reads from the device, and nothing is sent to it but the batch (a transfer guard sees to both). Before a save,
which waits for the device anyway, every row up to it is written, so that a kill after the save loses none. The data
position follows from the step (`training/schedule.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from ecommerce_vl.data.batches import training_batches
from ecommerce_vl.data.images import ImagePipeline
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.sources import open_source
from ecommerce_vl.data.token_report import sample_of, token_lines, token_report
from ecommerce_vl.data.tokenizer import FILE as TOKENIZER_FILE
from ecommerce_vl.data.tokenizer import tokenizer_digest
from ecommerce_vl.errors import UserError
from ecommerce_vl.training import workdir as workdirs
from ecommerce_vl.training.checkpoint import Checkpoints
from ecommerce_vl.training.initial import Initial, start_from
from ecommerce_vl.training.inputs import example_reader, run_tokenizer
from ecommerce_vl.training.limits import validate
from ecommerce_vl.training.mesh import batch_sharding, make_mesh
from ecommerce_vl.training.period import Period, check_finite
from ecommerce_vl.training.preemption import Preemption
from ecommerce_vl.training.processes import ALONE, Alone, Team
from ecommerce_vl.training.profile import Profile
from ecommerce_vl.training.quick_evaluation import Measure, QuickEvaluation
from ecommerce_vl.training.schedule import Stage, make_stages
from ecommerce_vl.training.streams import rows_per_stream
from ecommerce_vl.training.trainer import make_trainer
from ecommerce_vl.training.writer import MetricWriter, NoWriter

FINISHED, STOPPED = "finished", "stopped"
MANY_EPOCHS = 500  # a size meant for millions of products, most likely


def train(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    build_system: Callable,
    measure: Measure | None = None,
    initial: Initial | None = None,
    log: Callable[[str], None] = print,
    team: Team | Alone = ALONE,
) -> str:
    """Trains a system on prepared data until `total_samples` have been seen, or a signal comes.

    Args:
      config: see `configs/eclip.py`.
      workdir: the run directory; one that was stopped goes on.
      build_system: (config, vocab_size, special_ids) -> system.
      measure: what the quick evaluation measures; None, or `evaluate.every_steps` of 0, leaves it out.
      initial: gives the parameters that do not begin at random; asked once, at the start of a run.
      log: receives lines for people, those of the main process only.
      team: the processes of this run, already joined.

    Returns: FINISHED or STOPPED (after a committed save).

    Errors: UserError for whatever the user can mend: config, data, devices, run directory, checkpoints.
    """
    validate(config)
    preemption = Preemption()
    try:
        rooms = {"build_system": build_system, "measure": measure, "initial": initial, "team": team}
        return _train(config, workdir, **rooms, preemption=preemption, log=log)
    finally:
        preemption.close()


def _train(
    config, workdir: Path, *, build_system: Callable, measure, initial, preemption: Preemption, log, team
) -> str:
    if not team.is_main:
        log = lambda line: None
    # -- Run directory, devices, data --------------------------------------------------------------------------------
    batch_size = config["batch_size"]
    mesh = make_mesh(**config["mesh"], batch_size=batch_size)
    with workdirs.naming_the_key(config):
        stages = make_stages(config)
        # Told before a tokenizer is trained.
        rows_per_stream(streams=config["streams"], batch_size=batch_size, num_devices=mesh.size)
    num_steps = stages[-1].end_step
    data = PreparedData(config["data"]["path"])
    with workdirs.naming_the_key(config):
        source = open_source(data, config["data"])
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config["checkpoint"]["keep"], log=log)
    has_checkpoint = bool(checkpoints.steps())
    # The main process makes the run directory; the others then find it as it will stay.
    team.main_first()
    goes_on = not team.is_main or workdirs.open_workdir(
        workdir, config, fingerprint=data.fingerprint, has_checkpoint=has_checkpoint
    )
    # Another tokenizer or other data is named as such, before arrays whose shapes follow from them are compared.
    meta = checkpoints.newest_meta()
    if meta is not None:
        workdirs.check_fingerprint(found=data.fingerprint, expected=meta["data"]["fingerprint"])
    if not team.is_main and not (workdir / "tokenizer" / TOKENIZER_FILE).exists():
        raise UserError(f"--workdir={workdir} is not the folder of process 0; expected one that all processes share")
    with workdirs.naming_the_key(config):
        tokenizer = run_tokenizer(config, workdir, data, keep=goes_on)
    team.main_done()
    unit = {
        "config": dict(config),
        "data": {"fingerprint": data.fingerprint, "items": len(source.items), "digest": source.digest},
        "tokenizer": tokenizer_digest(workdir / "tokenizer"),
        "versions": workdirs.versions(),
    }
    if meta is not None:
        _check_same_run(meta, unit, workdir=workdir)
    with workdirs.naming_the_key(config):
        pipeline = ImagePipeline.of(config["image"])
        to_example = example_reader(config, pipeline, tokenizer)
        order = source.order(batch_size=batch_size, seed=config["seed"])
    log(
        f"devices  {jax.device_count()} x {jax.devices()[0].device_kind} · mesh {dict(mesh.shape)} · "
        f"jax {jax.__version__}"
    )
    log(f"data     {source.description} · fingerprint {data.fingerprint[:12]}")
    for line in token_lines(
        token_report(*sample_of(data.records("train")), tokenizer), max_length=config["text"]["max_length"]
    ):
        log(f"titles   {line}")

    # -- Model, optimizer, state -------------------------------------------------------------------------------------
    with workdirs.naming_the_key(config):
        system = build_system(config, vocab_size=tokenizer.vocab_size, special_ids=tokenizer.special_ids)
        trainer = make_trainer(config, system, mesh=mesh, stages=stages)
    restored = checkpoints.restore_latest(trainer.state)
    if restored is None:
        state = trainer.init()
        if initial is not None:
            state = start_from(state, initial, keep=workdir if team.is_main else None, log=log)
    else:
        state, meta = restored
        _check_same_run(meta, unit, workdir=workdir)
        team.main_first()
        checkpoints.set_aside_after(int(state.step), move=team.is_main)
        team.main_done()
    if team.is_main:
        workdirs.write_preprocess(workdir, pipeline)
    if team.is_main and (not has_checkpoint or not (workdir / "config.json").exists()):
        workdirs.write_identity(workdir, config, fingerprint=data.fingerprint)
    start = int(state.step)
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(trainer.state.params))
    log(
        f"model    {config['system']} · {num_parameters / 1e6:.2f} M parameters · "
        f"vocabulary {tokenizer.vocab_size:,} · "
        f"batch {' > '.join(f'{stage.batch_size:,}' for stage in stages)} · "
        f"{num_steps:,} steps = {stages[-1].end_sample / len(source.items):.1f} epochs"
    )
    if (epochs := stages[-1].end_sample / len(source.items)) > MANY_EPOCHS:
        log(f"note     {epochs:,.0f} epochs are many; --config.total_samples={30 * len(source.items)} are 30")
    if restored is not None:
        log(f"resume   step {start:,} of {num_steps:,} in {workdir}, with the same order of products")

    # -- Loop --------------------------------------------------------------------------------------------------------
    evaluate_every = config["evaluate"]["every_steps"] if measure else 0
    evaluate = evaluate_every and QuickEvaluation(
        data,
        config,
        pipeline=pipeline,
        tokenizer=tokenizer,
        system=system,
        graphdef=trainer.graphdef,
        param_shardings=jax.tree.map(lambda leaf: leaf.sharding, trainer.state.params),
        mesh=mesh,
        measure=measure,
        log=log,
    )
    writer = MetricWriter(workdir, resume_step=start) if team.is_main else NoWriter()
    read = partial(
        training_batches,
        source.items,
        source.to_batch(to_example),
        order=order,
        seed=config["seed"],
        num_workers=config["data"]["num_workers"],
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    batches = _batches_from(start, stages, read)
    sharding = batch_sharding(mesh)
    period = Period(start, stages=stages, schedule=trainer.schedule, shown=system.shown, log=log)
    profile = Profile(config["profile"] if team.is_main else (), workdir / "profile", start=start, log=log)
    pending, saved = None, start
    outcome = FINISHED
    guard = contextlib.ExitStack()
    guard.enter_context(jax.transfer_guard("disallow"))
    try:
        if evaluate and start == 0:
            period.leave_out(evaluate(0, state.params, writer))
        for step in range(start, num_steps):
            profile.begin(step + 1)
            batch = period.wait(_next_batch, batches, preemption, team)
            previous, pending = pending, None
            if batch is not None:
                with jax.transfer_guard("allow"):  # with several processes jax counts it as implicit
                    batch = jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)
                with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
                    state, metrics = trainer.step(state, batch)
                period.leave_out(profile.end(step + 1, metrics))
            done = step + (batch is not None)
            stop = team.stops_at(done, preemption.signal_name)
            last = done == num_steps
            # The first line of a process is for people; the rows are those of a run that was never stopped.
            row = done == 1 or last or done % config["log_every"] == 0
            if batch is not None and (row or step == start):
                pending = (writer if row else None, done, metrics)
            if previous is not None:
                period.report(*previous)
            if evaluate and batch is not None and (last or done % evaluate_every == 0):
                if pending is not None:
                    period.report(*pending)
                    pending = None
                period.leave_out(evaluate(done, state.params, writer))
            if done > saved and (stop or last or done % config["checkpoint"]["every_steps"] == 0):
                if pending is not None:
                    period.report(*pending)
                    pending = None
                check_finite(done, jax.device_get(metrics))
                writer.flush()
                with jax.transfer_guard("allow"):
                    checkpoints.save(done, state, meta=unit)
                saved = done
            if stop:
                outcome, signal_name = STOPPED, stop
                break
    except UserError:
        checkpoints.close()  # what is still being written is of a sound state
        raise
    finally:
        guard.close()
        writer.close()
        profile.close()
    checkpoints.close()
    if outcome == STOPPED:
        what = "saved" if done else "nothing to save yet"
        log(f"stopped  by {signal_name} at step {done:,}, {what}; run the same command to continue")
    else:
        log(f"finished {num_steps:,} steps, {stages[-1].end_sample:,} samples in {workdir}")
    return outcome


def _check_same_run(meta: Mapping[str, Any], unit: Mapping[str, Any], *, workdir: Path) -> None:
    workdirs.check_tokenizer(workdir, found=unit["tokenizer"], expected=meta["tokenizer"])
    workdirs.check_fingerprint(found=unit["data"]["fingerprint"], expected=meta["data"]["fingerprint"])
    # A run of before 2026-12-01 has no digest of its fraction, and none has one before there were pairs.
    if (then := meta["data"].get("digest", "")) and unit["data"]["digest"] != then:
        raise UserError(
            f"what is drawn is not what this run began with ({unit['data']['items']:,} now, "
            f"{meta['data']['items']:,} then); put the tables of the data back, or name another --workdir"
        )


def _batches_from(start: int, stages: Sequence[Stage], read: Callable[..., Iterator]) -> Iterator:
    """The batches of the steps from `start` on, stage after stage."""
    for stage in stages:
        if start < stage.end_step:
            steps = range(max(0, start - stage.first_step), stage.num_steps)
            yield from read(batch_size=stage.batch_size, steps=steps, first_position=stage.first_sample)


def _next_batch(batches, preemption: Preemption, team):
    """The next batch, or None once a signal has come: it may have ended loader processes that had only begun to start.

    Several processes go on to the step that they agree on, so there the batch is needed all the same.
    """
    if team.num_processes > 1:
        return next(batches)
    if preemption.signal_name is not None:
        return None
    try:
        return next(batches)
    except Exception:
        if preemption.signal_name is not None:
            return None
        raise
