"""The kernel of a notebook task: started as nbclient would, in the notebook's folder, and told where to put what it gives."""

from __future__ import annotations

import os
from typing import Any

from nbtasks import config
from nbtasks.notebook_exchange import Exchange
from nbtasks.notebook_files import NotebookCall

_LONGEST = 90  # characters of the folder of a socket; the system takes 107 in all


async def start(call: NotebookCall, exchange: Exchange) -> Any:
    """Start the kernel of `call`; its manager, before the kernel is ready. Raises OSError when it cannot be executed."""
    from jupyter_client.kernelspec import (
        KernelSpecManager,
    )  # heavy: loaded in slots that run notebooks, and nowhere else
    from jupyter_client.manager import AsyncKernelManager

    folder = exchange.folder
    # Found when it was submitted: to look for it takes IPython, a tenth of a second.
    specs = KernelSpecManager(kernel_dirs=[os.path.dirname(call.kernel_folder)])
    manager: Any = AsyncKernelManager(
        kernel_name=call.kernel, kernel_spec_manager=specs, connection_file=f"{folder}/kernel.json"
    )
    _provide(manager, exchange.id)
    if manager.ipykernel and os.name == "posix" and len(folder) < _LONGEST:
        manager.transport, manager.ip = "ipc", f"{folder}/socket"  # to a port, others on this machine could connect
    # What the notebook itself submits goes into the queue that it came from.
    queue = {config.variable("queue"): config.find_queue_root()}
    await manager.start_kernel(
        extra_arguments=["--HistoryManager.hist_file=:memory:"] if manager.ipykernel else [],  # as nbclient does
        cwd=os.path.dirname(call.path),
        env={**os.environ, **queue, **exchange.environment()},
    )
    return manager


def _provide(manager: Any, id: str) -> None:
    """Say that the kernel is a process of this host, unless its specification says otherwise: to look what else
    there could be takes as long as all the rest."""
    from jupyter_client import provisioning

    if "kernel_provisioner" not in manager.kernel_spec.metadata:
        local: Any = provisioning.LocalProvisioner  # type: ignore[attr-defined]  # it is not in its __all__
        manager.provisioner = local(kernel_id=id, kernel_spec=manager.kernel_spec, parent=manager)
