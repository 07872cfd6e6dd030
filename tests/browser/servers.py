"""A real JupyterLab 4 or Notebook 7 server, on a free port of the loopback, with folders of its own."""

from __future__ import annotations

import itertools
import json
import secrets
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE = 60.0
_COMMANDS = {"lab": "jupyterlab", "notebook": "notebook"}
_SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # Every cell is in the page, wherever one has scrolled to; nothing is saved unless the test says so.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
# What the tests have no use for, and every page would load.
_DISABLED = """
    celltags console csvviewer debugger extensionmanager help htmlviewer hub imageviewer inspector launcher
    logconsole markdownviewer mermaid pdf settingeditor terminal tooltip vega5
"""
_OPTIONS = """
    --no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port=0 --ServerApp.terminals_enabled=False
    --LabApp.expose_app_in_browser=True --LabApp.news_url=None --LabApp.extension_manager=readonly
    --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate
    --JupyterNotebookApp.expose_app_in_browser=True
"""


class Server:
    """A server of one `kind`, "lab" or "notebook", below `folder`. A context manager; `stop` and `start` are a restart."""

    def __init__(self, kind: str, folder: Path, env: dict[str, str]) -> None:
        self.kind = kind
        self.root = folder / "root"  # what it serves
        self.token = secrets.token_hex(8)
        self.url = ""
        self._folder, self._log = folder, folder / "server.log"
        folders = {"HOME": "home", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data"}
        folders |= {"JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
        self.env = env | {name: str(folder / part) for name, part in folders.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.root.mkdir(parents=True)
        (folder / "home").mkdir()

    def __enter__(self) -> Server:
        for name, values in _SETTINGS.items():
            self._set(name, values)
        self.set_theme("light")
        disabled = {f"@jupyterlab/{name}-extension": True for name in _DISABLED.split()}
        config = {"disabledExtensions": disabled, "buildCheck": False, "buildAvailable": False}
        (self._folder / "config" / "labconfig").mkdir(parents=True)
        (self._folder / "config" / "labconfig" / "page_config.json").write_text(json.dumps(config))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [*_OPTIONS.split(), f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={self.root}"]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _COMMANDS[self.kind], *options],
                env=self.env,
                stdout=log,
                stderr=log,
                cwd=self.root,
            )
        told = self._folder / "runtime" / f"jpserver-{self._process.pid}.json"
        deadline = time.monotonic() + PATIENCE
        while not self._answers(told):
            alive = self._process.poll() is None and time.monotonic() < deadline
            assert alive, f"the server did not start:\n{self._log.read_text()[-3000:]}"
            time.sleep(0.05)

    def _answers(self, told: Path) -> bool:
        with suppress(OSError, ValueError):  # not written yet, half written, not listening yet
            self.url = json.loads(told.read_text())["url"].replace("localhost", "127.0.0.1").rstrip("/")
            with urllib.request.urlopen(f"{self.url}/api/status?token={self.token}", timeout=5):
                return True
        return False

    def stop(self) -> None:
        """End it with all its kernels, and wait until it is gone."""
        if self._process is None:
            return
        with suppress(OSError):
            self.end_kernels()
        self._process.kill()  # asked to stop, it may wait for its extensions for ever
        self._process.wait()
        self._process = None

    def set_theme(self, theme: str) -> None:
        """``light`` or ``dark``, for pages that are opened from now on."""
        self._set("@jupyterlab/apputils-extension/themes", {"theme": f"JupyterLab {theme.capitalize()}"})

    def _set(self, name: str, values: dict[str, object]) -> None:
        path = self._folder / "config" / "lab" / "user-settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def end_kernels(self, path: Path | None = None) -> None:
        """End the kernels of the notebook at `path` (default: all)."""
        inside = path.relative_to(self.root).as_posix() if path else ""
        for session in self._ask("GET", "/api/sessions"):
            if session["path"].startswith(inside):
                self._ask("DELETE", f"/api/sessions/{session['id']}")

    def _ask(self, method: str, address: str) -> Any:
        request = urllib.request.Request(f"{self.url}{address}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or "null")

    def address(self, path: Path) -> str:
        """Where a page shows the notebook at `path`, in a workspace of its own."""
        inside = path.relative_to(self.root).as_posix()
        if self.kind == "notebook":
            return f"{self.url}/notebooks/{inside}?token={self.token}"
        return f"{self.url}/lab/workspaces/w{next(self._numbers)}/tree/{inside}?token={self.token}"
