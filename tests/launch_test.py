"""The launchers: clean shell, dry runs that print the whole command, YAML that names what the door has."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
SHELLCHECK = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
ARGUMENTS = ["--config=configs/eclip.py:base", "--workdir=/mnt/a folder", "--config.text.fields=('brand', 'color')"]


def bash(*arguments, **environment):
    """A run in which no launcher's program exists, so a dry run that does something fails."""
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere"} | environment
    return subprocess.run(["bash", *arguments], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.skipif(not SHELLCHECK, reason="shellcheck is not installed; it comes with the test extra")
@pytest.mark.parametrize("name", ["tpu_pod.sh", "slurm.sbatch"])
def test_scripts_are_clean(name):
    done = subprocess.run([SHELLCHECK, LAUNCH / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_tpu_pod_prints_the_command_of_all_workers():
    done = bash("launch/tpu_pod.sh", "slice-1", "us-west4-a", "--dry-run", "--", *ARGUMENTS)
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    assert words[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "slice-1"]
    assert "--zone=us-west4-a" in words and "--worker=all" in words
    remote = next(word for word in words if word.startswith("--command="))
    assert remote.startswith("--command=cd ecommerce_vl && exec .venv/bin/python -u -m ecommerce_vl.train ")
    # What each worker's shell reads is what was given, spaces and quotes included.
    echoed = bash("-c", "printf '%s\\n'" + remote.partition("ecommerce_vl.train")[2])
    assert echoed.stdout.splitlines() == ARGUMENTS


def test_tpu_pod_runs_again_after_a_save_only(tmp_path):
    for status, restarts, expected in ((75, "2", 3), (1, "2", 1), (0, "2", 1)):
        (tmp_path / "gcloud").write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs{status}\nexit {status}\n")
        (tmp_path / "gcloud").chmod(0o755)
        done = bash("launch/tpu_pod.sh", "n", "z", "--", "--x=1", PATH=f"{tmp_path}:/usr/bin:/bin", RESTARTS=restarts)
        assert done.returncode == status
        assert len((tmp_path / f"runs{status}").read_text().splitlines()) == expected


@pytest.mark.parametrize("arguments", [[], ["n", "z"], ["n", "z", "--config=x"], ["n", "z", "--dry-run", "--"]])
def test_tpu_pod_teaches_when_it_is_called_wrongly(arguments):
    done = bash("launch/tpu_pod.sh", *arguments)
    assert done.returncode == 2 and "bash launch/tpu_pod.sh NAME ZONE" in done.stderr


def test_slurm_prints_the_command_of_all_tasks():
    done = bash("launch/slurm.sbatch", *ARGUMENTS, DRY_RUN="1")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout)
    assert words[0] == "srun" and words[-len(ARGUMENTS) :] == ARGUMENTS and "ecommerce_vl.train" in words


def test_slurm_asks_for_one_task_a_gpu_and_a_signal():
    options = [
        line.split()[1] for line in (LAUNCH / "slurm.sbatch").read_text().splitlines() if line.startswith("#SBATCH")
    ]
    found = dict(option.partition("=")[::2] for option in options)
    assert found["--ntasks-per-node"] == found["--gpus-per-node"]
    assert found["--signal"].startswith("TERM@") and "--requeue" in found


def test_slurm_queues_again_after_a_save(tmp_path):
    for name, body in {"srun": "exit 75", "scontrol": f'echo "$@" > {tmp_path}/asked'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    done = bash("launch/slurm.sbatch", PATH=f"{tmp_path}:/usr/bin:/bin", SLURM_JOB_ID="17")
    assert done.returncode == 75 and (tmp_path / "asked").read_text() == "requeue 17\n"


def test_the_jobset_runs_the_door_on_every_host_of_the_slice():
    jobset = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    (group,) = jobset["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == rows * columns // chips
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["command"][:4] == ["python", "-u", "-m", "ecommerce_vl.train"]
    assert importlib.util.find_spec("ecommerce_vl.train")
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] >= 60
    ports = {port["containerPort"] for port in container["ports"]}
    assert {8482, 8483} <= ports


def test_the_launchers_hold_no_logic():
    for file in ("tpu_pod.sh", "slurm.sbatch"):
        assert len((LAUNCH / file).read_text().splitlines()) < 50
        assert os.access(LAUNCH / file, os.R_OK)
