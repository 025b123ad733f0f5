"""The templates of `launch/`: what they say exists, and where two processes can show it, it works."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import pytest
import typer
from jax._src.clusters.slurm_cluster import SlurmCluster

from diorama.cli.main import app
from diorama.core import override
from diorama.data import Catalogue, curate
from diorama.data.digits import write_digits
from diorama.run import Folder
from diorama.train import examples_done
from tests.cli import tiny_pixels
from tests.shared import ROOT

LAUNCH, GUIDE = ROOT / "launch", ROOT / "docs" / "launch.md"
TINY = str(ROOT / "tests" / "cli" / "tiny_pixels.py")
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


def jobset() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((LAUNCH / "jobset.yaml").read_text())


def program(folder: Path, name: str, text: str) -> None:
    """An executable script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def with_programs(folder: Path, **more: str) -> dict[str, str]:
    """An environment in which the programs of `folder` are found first, and each process has one device."""
    paths = {"PATH": f"{folder}:{os.environ['PATH']}", "JAX_PLATFORMS": "cpu"}
    return os.environ | paths | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")} | more


def free_port(ports: range) -> int:
    for port in ports:
        with socket.socket() as tried:
            try:
                tried.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("every port is taken")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--severity=warning", "--exclude=SC2155", path], check=True)


def test_commands_name_options_that_exist() -> None:
    """Those of the guide, and of every template."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = 0
    for path in (GUIDE, *LAUNCH.iterdir()):
        text = re.sub(r"\\\n|(?<=diorama)\n", " ", path.read_text())
        for name, words in re.findall(r"\bdiorama ([a-z]+)((?:[^\S\n]+[^\s`|;&#]+)*)", text):
            if name not in known:
                continue
            options = {o for p in known[name].params for o in p.opts}
            used = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", words))
            assert used <= options, f"{path.name}: diorama {name}: {used - options}"
            found += len(used)
    assert found > 10


def test_templates_are_explained() -> None:
    """Every template, every mark `yours` and every variable that is set stands in the guide."""
    guide = GUIDE.read_text()
    for path in LAUNCH.iterdir():
        assert f"launch/{path.name}" in guide
        text = path.read_text()
        for mark in re.findall(r"# yours: (.+)", text):
            assert f"| {mark} |" in guide, mark
        for flag in re.findall(r"--xla_\w+|\b(?:JAX|XLA)_[A-Z_]+", text):
            assert flag in guide, flag


def test_xla_knows_the_flags() -> None:
    """An unknown one would end every process."""
    flags = {flag for path in LAUNCH.iterdir() for flag in re.findall(r"--xla_\w+=\w+", path.read_text())}
    assert flags
    code = "import jax; jax.devices()"
    environment = os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def test_image_holds_what_is_there() -> None:
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    assert {line.split()[0] for line in lines if line and not line.startswith("#")} == {
        "FROM", "WORKDIR", "COPY", "RUN", "CMD",
    }  # fmt: skip
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1])
    assert "cuda" in (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]


def test_jobset_agrees_with_itself(tmp_path: Path) -> None:
    """Its command, run by its shell as process 1, says what the rest of it says."""
    told = jobset()
    assert (told["apiVersion"], told["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (train,) = told["spec"]["replicatedJobs"]
    job, pod = train["template"]["spec"], train["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    program(tmp_path, "diorama", 'printf "%s\\n" "$@"')
    shown = subprocess.run(
        container["command"], env=with_programs(tmp_path, JOB_COMPLETION_INDEX="1"), check=True, capture_output=True,
        text=True,
    ).stdout.split()  # fmt: skip
    said = {word: value for word, value in pairwise(shown) if word.startswith("--")}
    machines = job["parallelism"]
    assert (job["completions"], job["completionMode"], said["--processes"]) == (machines, "Indexed", str(machines))
    assert said["--process"] == "1"
    first, port = said["--coordinator"].split(":")
    name = told["metadata"]["name"]
    assert first == f"{name}-{train['name']}-0-0.{name}"
    assert int(port) == container["ports"][0]["containerPort"]
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert said["--set"] == f"layout.fsdp={machines * gpus}"
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert pod["restartPolicy"] == "Never", "a policy of failures needs it"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [128 + signal.SIGTERM]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    curate([write_digits(folder / "media", clips=18, stills=9)], folder / "catalogue")
    return folder / "catalogue"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`diorama` of this interpreter."""
    folder = tmp_path_factory.mktemp("programs")
    code = "from diorama.cli.main import main; main()"
    program(folder, "diorama", f'exec {shlex.quote(sys.executable)} -c "{code}" "$@"')
    return folder


def trained(run: Path, examples: int) -> None:
    """One release, by one log, of two processes."""
    assert [path.name for path in run.glob("*.safetensors")] == ["denoiser.safetensors"]
    assert json.loads((run / "denoiser" / "machine.json").read_text())["processes"] == 2
    seen = [json.loads(line)["examples"] for line in (run / "denoiser" / "log.jsonl").read_text().splitlines()]
    assert seen == sorted(set(seen))
    assert seen[-1] == examples


@pytest.mark.slow
def test_local_trains_in_two_processes(catalogue: Path, programs: Path, tmp_path: Path) -> None:
    words = [LAUNCH / "local.sh", "2", TINY, "--data", catalogue, "--out", tmp_path / "run", "--set", "layout.data=2"]
    environment = with_programs(programs, PORT=str(free_port(range(20000, 30000))))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    trained(tmp_path / "run", 64)


@pytest.mark.parametrize("code", [0, 1, 143])
def test_local_leaves_with_the_code_of_its_processes(tmp_path: Path, code: int) -> None:
    """One that failed takes the others along; one that was told to stop lets them save."""
    program(tmp_path, "diorama", f"""
        (( ${{@: -1}} == 1 )) && exit {code}
        [ {code} -eq 1 ] && exec sleep 60
        sleep 0.5; touch {tmp_path}/saved
    """)  # fmt: skip
    began = time.monotonic()
    done = subprocess.run([LAUNCH / "local.sh", "2", TINY], env=with_programs(tmp_path), check=False)
    assert done.returncode == code
    assert time.monotonic() - began < 30
    assert (tmp_path / "saved").exists() == (code != 1)


def test_local_passes_a_signal_on(tmp_path: Path) -> None:
    program(tmp_path, "diorama", f"""
        trap 'touch {tmp_path}/told.$i; exit 143' TERM
        i=${{@: -1}}; touch {tmp_path}/began.$i; for ((n = 0; n < 600; n++)); do sleep 0.1; done
    """)  # fmt: skip
    with subprocess.Popen([LAUNCH / "local.sh", "2", TINY], env=with_programs(tmp_path)) as job:
        while job.poll() is None and len(list(tmp_path.glob("began.*"))) < 2:
            time.sleep(0.05)
        job.terminate()
        assert job.wait(timeout=30) == 128 + signal.SIGTERM
    assert len(list(tmp_path.glob("told.*"))) == 2


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_at_once(catalogue: Path, programs: Path, tmp_path: Path) -> None:
    """The first alone finds that the folder is another run's, while the other waits for it."""
    Folder.claim(tmp_path, override(tiny_pixels.recipe(), ["seed=1"]), Catalogue(catalogue))
    words = [LAUNCH / "local.sh", "2", TINY, "--data", catalogue, "--out", tmp_path, "--set", "layout.data=2"]
    environment = with_programs(programs, PORT=str(free_port(range(20000, 30000))))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "use another folder" in done.stderr


SRUN = """
# Two tasks, as on two nodes: their variables are SLURM's own, its options come first, the highest code is the step's.
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_LOCALID=0
SLURM_PROCID=0 "$@" & one=$!
SLURM_PROCID=1 "$@" & two=$!
echo "$one $two" > "$TASKS"
wait $one; a=$?
wait $two; b=$?
exit $((a > b ? a : b))
"""


@pytest.mark.slow
def test_slurm_is_told_to_stop_and_goes_on(catalogue: Path, programs: Path, tmp_path: Path) -> None:
    """With a stand-in for `srun`: JAX finds the processes by SLURM's variables, and the script asks to come back."""
    run, tasks, asked = tmp_path / "run", tmp_path / "tasks", tmp_path / "asked"
    program(programs, "srun", SRUN)
    program(programs, "scontrol", f'echo "$@" >> {asked}')
    first = 65536 - 2**12
    port = free_port(range(first, first + 2**12))
    environment = with_programs(programs, SLURM_JOB_ID=str(port - first), TASKS=str(tasks))
    environment |= dict(SLURM_STEP_NODELIST="localhost", SLURM_NTASKS="2", SLURM_PROCID="0", SLURM_LOCALID="0")
    settings = "layout.data=2", "denoiser.train.examples=400"
    words = [LAUNCH / "slurm.sh", TINY, "--data", catalogue, "--out", run]
    words += [word for setting in settings for word in ("--set", setting)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job:
        while job.poll() is None and not (run / "config.txt").exists():
            time.sleep(0.1)  # then they have met: what they are told before the first step holds for it
        for task in tasks.read_text().split():  # as --signal does
            os.kill(int(task), signal.SIGTERM)
        said, _ = job.communicate(timeout=300)
    assert job.returncode == 128 + signal.SIGTERM, said
    assert "to go on: diorama train" in said
    assert 0 < examples_done(run / "denoiser") < 400
    assert asked.read_text() == f"requeue {port - first}\n"
    assert not (run / "denoiser.safetensors").exists()

    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    trained(run, 400)
    assert asked.read_text().count("requeue") == 1


def test_slurm_variables_are_those_that_jax_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one process a node gets all its accelerators only if told which: otherwise that of its number."""
    assert "JAX_LOCAL_DEVICE_IDS" in Path(jax._src.distributed.__file__).read_text()
    for name in re.findall(r"SLURM_[A-Z]+(?:_[A-Z]+)?(?==)", SRUN):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert SlurmCluster.is_env_present()
    assert SlurmCluster.get_local_process_id() == 0
