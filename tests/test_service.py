"""``nbtasks service``: the file is right for systemd and launchd, works without either running, and schedules speak of it."""

from __future__ import annotations

import getpass
import os
import plistlib
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import nbtasks
from nbtasks import cli, config, services
from nbtasks.queue.directory import Queue
from tests.systemd import verify
from tests.worker import calls
from tests.worker.tools import until

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of an odd name; no systemd can be reached from here."""
    folder = tmp_path / 'odd $na%me "1"'
    folder.mkdir()
    monkeypatch.setenv("NBTASKS_QUEUE", str(folder / ".nbtasks"))
    monkeypatch.setenv("NBTASKS_HOST_DIR", str(tmp_path / "host"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path}/nowhere")
    config.reset()
    return folder


def printed(capsys: Capture, *options: str) -> str:
    assert cli.run(["service", "install", "--print", *options]) == 0
    return capsys.readouterr().out


def test_the_unit_is_one_that_systemd_takes(
    project: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", 'a"b $x %p\\ end')
    text = printed(capsys, "-w", "2", "-l", "gpu", "-l", "default", "--memory", "8G", "--env", "SECRET")
    unit = tmp_path / "nbtasks-test.service"
    unit.write_text(text)
    assert verify(unit) == ""
    assert "\nMemoryMax=8000000000\n" in text
    assert "\nRestart=on-failure\n" in text
    assert '\nEnvironment="SECRET=a\\"b $x %%p\\\\ end"\n' in text
    assert not os.path.exists(services.path_of(str(project / ".nbtasks"), "systemd"))
    unit.write_text(text.replace("Restart=on-failure", "Restart=sometimes"))
    assert "Restart" in verify(unit) or "restart" in verify(unit), "what is wrong is seen"


def test_the_file_for_launchd_is_a_property_list(project: Path, capsys: Capture) -> None:
    content = plistlib.loads(printed(capsys, "--kind", "launchd", "-w", "3").encode())
    assert content["ProgramArguments"][:5] == [sys.executable, "-m", "nbtasks", "-q", str(project / ".nbtasks")]
    assert content["ProgramArguments"][-2:] == ["-w", "3"]
    assert content["WorkingDirectory"] == str(project)
    assert content["KeepAlive"] == {"SuccessfulExit": False}
    assert content["EnvironmentVariables"]["PATH"] == os.environ["PATH"]


def test_a_password_is_in_the_file_alone(project: Path, capsys: Capture) -> None:
    """Not on the command line, which everybody may read, and not on the screen."""
    assert cli.run(["service", "install", "--print", "-e", "rq+redis://:secret@host", "--kind", "systemd"]) == 0
    shown = capsys.readouterr()
    assert '\nEnvironment="NBTASKS_ENGINE=rq+redis://host"\n' in shown.out
    assert "left out here; nbtasks service install writes it" in shown.err
    assert cli.run(["service", "install", "--kind", "systemd", "-e", "rq+redis://:secret@host"]) == 0
    path = Path(services.path_of(str(project / ".nbtasks"), "systemd"))
    (command,) = (line for line in path.read_text().splitlines() if line.startswith("ExecStart="))
    assert "secret" not in command
    assert '\nEnvironment="NBTASKS_ENGINE=rq+redis://:secret@host"\n' in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--memory", "8"), "--memory '8' cannot be"),
        (("--env", "NO_SUCH_THING"), "NO_SUCH_THING: there is no such variable"),
        (("-e", "rabbit://x"), "names no engine"),
        (("-l", "a b"), "lane"),
    ],
)
def test_what_cannot_be_is_refused(project: Path, capsys: Capture, options: tuple[str, ...], words: str) -> None:
    assert cli.run(["service", "install", *options]) == 2
    assert words in capsys.readouterr().err
    assert services.find(str(project / ".nbtasks")) is None


def test_without_systemd_it_is_written_and_says_what_to_do(project: Path, capsys: Capture) -> None:
    root = str(project / ".nbtasks")
    assert cli.run(["service", "status"]) == 1
    assert "nbtasks service install" in capsys.readouterr().out
    assert cli.run(["service", "install", "--kind", "systemd"]) == 0
    said = capsys.readouterr().out
    assert "It was not started, for systemd does not answer here" in said
    assert "Until then: nbtasks worker" in said
    assert os.path.samefile(services.wanted_path(root), services.path_of(root, "systemd")), "the next login starts it"
    assert cli.run(["service", "install", "--kind", "systemd", "-w", "1"]) == 0, "again: it is replaced"
    assert cli.run(["service", "status"]) == 1
    assert "does not run" in capsys.readouterr().out
    assert cli.run(["service", "uninstall"]) == 0
    assert services.find(root) is None
    assert not os.path.lexists(services.wanted_path(root))


def test_its_worker_runs_tasks_and_is_known(queue: Queue, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the unit says is started here as systemd would start it."""
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={queue.root}/nowhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.path.dirname(queue.root))
    config.reset()
    assert cli.run(["service", "install", "--kind", "systemd", "-w", "1"]) == 0
    with open(services.path_of(queue.root, "systemd"), encoding="utf-8") as file:
        unit = file.read()
    words = services._command_in(unit.encode(), "systemd")
    pairs = [line.partition("=")[2].strip('"').partition("=") for line in unit.splitlines() if line[:4] == "Envi"]
    environ = {"HOME": os.environ["HOME"], **{name: value for name, _, value in pairs}, "PYTHONPATH": os.getcwd()}
    with open(services.log_of(queue.root), "ab") as log:
        worker = subprocess.Popen(words, env=environ, cwd=os.path.dirname(queue.root), stdout=log, stderr=log)
    try:
        assert nbtasks.submit(calls.pid).result(30) != worker.pid
        capsys.readouterr()
        assert until(lambda: cli.run(["service", "status"]) == 0)
        said = capsys.readouterr().out
        assert f"(pid {worker.pid})" in said
        assert "engine processes" in said, "the last lines of its log"
    finally:
        worker.terminate()
        assert worker.wait(20) == 0
    cli.run(["service", "uninstall"])


def test_schedules_say_that_the_service_survives_a_reboot(
    queue: Queue, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={queue.root}/nowhere")
    monkeypatch.setenv("XDG_RUNTIME_DIR", os.path.dirname(queue.root))
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    config.reset()
    assert cli.run(["service", "install", "--kind", "systemd"]) == 0
    capsys.readouterr()
    nbtasks.using(name="nightly").cron("0 3 * * *", calls.pid)
    name = services.name_of(queue.root)
    assert f"none does now; the service {name} starts one after a reboot" in capsys.readouterr().out
    nbtasks.using(name="other", lane="gpu").every("1h", calls.pid)
    assert "start one with `nbtasks worker -l gpu`" in capsys.readouterr().out, "it serves another lane"
    linger = os.path.exists(f"/var/lib/systemd/linger/{getpass.getuser()}")
    assert ("loginctl enable-linger" in services.life_words(queue.root, "default")) is not linger
    cli.run(["service", "uninstall"])
    capsys.readouterr()
    nbtasks.using(name="nightly").cron("0 3 * * *", calls.pid)
    assert name not in capsys.readouterr().out
