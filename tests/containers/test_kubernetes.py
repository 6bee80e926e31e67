"""The example for a cluster is valid, and says what `docker-compose.yml` says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support import containers
from tests.support.system import ROOT
from worker.settings import unknown_names

FILE = ROOT / "ops/kubernetes/team-sessions.yml"
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
PODS = {o["metadata"]["name"]: o["spec"]["template"]["spec"] for o in OBJECTS if o["kind"] in ("Job", "Deployment")}
SERVICES = containers.compose({})["services"]


def test_each_object_is_valid() -> None:
    """Against the API of Kubernetes, as of the version that the validator brings; a field too much is a mistake."""
    validate = [Path(sys.executable).with_name("kubernetes-validate"), "--strict", FILE]

    done = subprocess.run(validate, capture_output=True, text=True, check=False)

    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, lines
    assert len([line for line in lines if " passed " in line]) == len(OBJECTS), lines


def test_pods_run_what_the_services_run() -> None:
    """The same commands, with the same time to end; as users without privileges, with nothing to write to but /tmp."""
    for name, pod in PODS.items():
        (container,) = pod["containers"]

        assert container["args"] == SERVICES[name]["command"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == SERVICES[name]["user"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/run/secrets/team-sessions", "/tmp"}
        if name.startswith("worker"):
            assert f"{pod['terminationGracePeriodSeconds']}s" == SERVICES[name]["stop_grace_period"]
            assert "livenessProbe" not in container


def test_each_name_that_is_set_is_a_setting() -> None:
    """A slip of the pen would be a default at work."""
    (stated,) = (o["data"] for o in OBJECTS if o["kind"] == "ConfigMap")

    assert unknown_names(stated) == []
