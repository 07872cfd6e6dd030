"""What docs/deploy/ has to copy is right: systemd takes the units, the commands are there, the compose file is one."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from nbtasks.engines.urls import parse
from tests.source import ROOT
from tests.systemd import verify

DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_unit_and_its_program_is_there(unit: Path, tmp_path: Path) -> None:
    (tmp_path / "venv").symlink_to(sys.prefix)
    (tmp_path / "project").mkdir()
    copy = tmp_path / unit.name
    # A user's manager reads %h from the accounts of the system, not from HOME.
    copy.write_text(unit.read_text().replace("%h", str(tmp_path)))
    assert verify(copy) == ""


def test_there_is_a_unit_for_the_worker_and_for_each_engine() -> None:
    assert {unit.stem.removeprefix("nbtasks-") for unit in UNITS} == {"worker", "rq", "celery", "huey", "dask"}


def test_the_page_names_every_file_and_every_profile(compose: dict[str, Any]) -> None:
    page = (DEPLOY / "README.md").read_text()
    files = [path.relative_to(DEPLOY) for path in DEPLOY.rglob("*") if path.is_file() and path.name != "README.md"]
    assert [str(path) for path in files if f"]({path})" not in page] == []
    profiles = {profile for service in compose["services"].values() for profile in service["profiles"]}
    for profile in profiles:
        assert f"| `{profile}` |" in page
    assert {parse(url).kind for url in re.findall(r"`((?:\w+\+redis|dask)://localhost:\d+)`", page)} == profiles


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    import yaml

    with open(DEPLOY / "compose.yaml", encoding="utf-8") as file:
        found: dict[str, Any] = yaml.safe_load(file)
    return found


def test_the_compose_file_keeps_to_its_schema(compose: dict[str, Any]) -> None:
    import jsonschema

    with open(ROOT / "tests" / "data" / "compose-spec.json", encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []
    broken = {**compose, "services": {"redis": {"imgae": "redis"}}}
    assert list(validator.iter_errors(broken)), "what is wrong is seen"


def test_its_services_fit_together(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other in service.get("depends_on", ()):
            assert other in services, name
            assert set(service["profiles"]) <= set(services[other]["profiles"]), f"{name} without {other}"
        for secret in service.get("secrets", ()):
            assert secret in compose["secrets"]
        if url := service.get("environment", {}).get("NBTASKS_ENGINE"):
            engine = parse(url)
            assert (engine.kind, engine.transport) == (name, "redis")


def test_containers_and_units_run_the_same_programs(compose: dict[str, Any]) -> None:
    for unit in UNITS:
        name = unit.stem.removeprefix("nbtasks-")
        if name == "worker":
            continue
        line = re.search(r"^ExecStart=%h/venv/bin/(.*)$", unit.read_text(), re.M)
        assert line is not None
        here, there = (
            [re.sub(r"//[\w.]+:", "//HOST:", word) for word in words]
            for words in (shlex.split(line[1]), compose["services"][name]["command"])
        )
        assert here == there
