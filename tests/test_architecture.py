"""The shape of the code: who may import whom, how light the start is, how long files and functions are.

A failure lists all offenders. To add a file, put it into FLOORS at its place; a file imports only from files above it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from nbtasks.queue import layout
from tests.source import ROOT, Module, body_length, code_lines, functions, literals, modules

FLOORS = {
    # layout and tickets lie in queue/, and urls in engines/, but they are pure names, which the floors above them need.
    "words": "errors status spec needs recurrence outcome queue.layout queue.tickets engines.urls",
    "bytes and the outside": """
        config_values config zones durable_calls durable durable_faults durable_model keys spool blobs headers frames
        homes pickling culprits digests payload listings imports serving sources context cache_code cache_buffers cache_modules cache_finding cache_look cache_keys host process_table processes notices services logs
    """,
    "the directory": """
        queue.leases queue.doorbells queue.store queue.members queue.lookup queue.holders queue.rates queue.shortage queue.reasons queue.records queue.cache queue.catalogue queue.groups
        queue.claims queue.dependencies queue.waking queue.tokens queue.needy queue.following queue.directory queue.check queue.deaths queue.expiring queue.recovery queue.removing queue.schedules
        queue.recurring
    """,
    "running one task here": """
        hooks previews bars tqdm_bars rich_bars keyboard streams outputs capture capture_threads tracebacks cell_locals cell_scopes
        cell_names cell_logging cell_looks cell_shell cell_results cells
        notebook_files notebook_copies notebook_parameters notebook_keys notebook_lending notebook_exchange notebook_given notebook_resume notebook_ends notebook_client notebook_kernels notebook_runs running run
    """,
    "where": "engines.base engines.inline engines.local",
    "somewhere else": """
        worker.warm
        engines.foreign engines.wire engines.blob_cache engines.far_locks engines.far_slot engines.far_template engines.runners engines.batches engines.sender
        engines.far_batch engines.far
        engines.channel_redis engines.rq
        engines.celery_words engines.celery_redis engines.channel_amqp engines.celery_amqp engines.celery
        engines.sqlite_file engines.channel_sqlite engines.huey_messages engines.huey_redis engines.huey_sqlite engines.huey
        engines.channel_dask engines.dask_line engines.dask_local engines.dask engines.registry
        engines.bridged_task engines.loading engines.finishing engines.local_tasks engines.claiming engines.in_flight engines.adoption engines.bridge
    """,
    "what runs next": """
        worker.autostart worker.gauges worker.limits worker.slot worker.crew worker.rooms worker.interrupting worker.thread_slot worker.threads worker.thread_crew worker.flusher worker.standing worker.bridging worker.agenda worker.backlog worker.supervisor
    """,
    "what people hold": "ends watching facts cached cycles handle timing wishes options submitting tasklist caching spreading schedule_words scheduling notebook_cached notebooks decorate api executor graph locking",
    "doors": """
        jupyter.sgr jupyter.ansi jupyter.shown jupyter.words jupyter.bars jupyter.markup jupyter.pictures
        jupyter.traces jupyter.schedule_view jupyter.tables jupyter.render jupyter.page jupyter.displays jupyter.comms jupyter.strips
        jupyter.notify jupyter.snapshot jupyter.cards jupyter.rest jupyter.live jupyter.revive
        jupyter.graph_shape jupyter.graph_html jupyter.graph_view
        jupyter.binding jupyter.lines
        jupyter.dashboard_filters jupyter.dashboard_facts jupyter.dashboard_crew jupyter.dashboard_html
        jupyter.dashboard_size jupyter.dashboard_work jupyter.dashboard_state jupyter.dashboard_view
        jupyter.dashboard_widgets jupyter.dashboard_board jupyter.dashboard
        jupyter.asked jupyter.handles jupyter.touched jupyter.reading jupyter.sentences jupyter.chained jupyter.again
        jupyter.pending jupyter.here jupyter.transforming jupyter.completing jupyter.sending jupyter.remembered jupyter.verbs
        jupyter.magics jupyter.extension
        jupyter.saved jupyter.enable
        cli_show cli_graph cli_clean cli_follow cli_doctor cli_worker cli_service cli_run cli_schedule cli_notebooks cli_key cli __main__
    """,
}
ORDER = [f"nbtasks.{name}" for floor in FLOORS.values() for name in floor.split()]
DOORS = [f"nbtasks.{name}" for name in FLOORS["doors"].split()]

# Imports upwards that are allowed inside a function: (who, whom) and why.
LAZY: dict[tuple[str, str], str] = {
    ("nbtasks.bars", "nbtasks.tqdm_bars"): "the hook for tqdm is an import hook, wanted only inside a slot",
    ("nbtasks.bars", "nbtasks.rich_bars"): "so is that for rich",
    ("nbtasks.facts", "nbtasks.jupyter.render"): "a handle at the end of a cell shows its card, only in a notebook",
    ("nbtasks.tasklist", "nbtasks.jupyter.render"): "so does a list of them",
    ("nbtasks.graph", "nbtasks.jupyter.graph_html"): "a pipeline at the end of a cell shows its graph",
    ("nbtasks.graph", "nbtasks.jupyter.graph_view"): "and keeps it up to date",
    ("nbtasks.scheduling", "nbtasks.jupyter.schedule_view"): "and a schedule its table",
}
# Files that may touch the environment beside config.py, and why.
ENVIRONMENT: dict[str, str] = {
    "nbtasks.cell_looks": "MPLBACKEND, which the kernel sets for its own display",
    "nbtasks.cell_shell": "the same, in the slot",
    "nbtasks.engines.dask_local": "hands the environment to the process that keeps the cluster",
    "nbtasks.engines.runners": "hands the environment to the template of the far side",
    "nbtasks.context": "takes the submitter's changed environment along, and puts it on in the slot",
    "nbtasks.jupyter.magics": "JPY_SESSION_NAME, by which Jupyter tells a kernel the path of its notebook",
    "nbtasks.jupyter.revive": "the same, to find the strips in the saved file",
    "nbtasks.notebook_given": "in the kernel of a notebook task: where to put what comes back; restores what was changed",
    "nbtasks.notebook_lending": "in that kernel, too: which slot it belongs to",
    "nbtasks.notebook_kernels": "hands the environment to that kernel",
    "nbtasks.notices": "hands the environment, without the mark of a slot, to the command that gives notice",
    "nbtasks.processes": "marks a slot, so that all that descends from it is found",
    "nbtasks.zones": "TZ, the time zone of whoever asks",
    "nbtasks.worker.autostart": "hands the environment, without the mark of a slot, to the worker that it starts",
    "nbtasks.worker.slot": "keeps what was there before a task, for the worker that it may have to start",
    "nbtasks.worker.warm": "sets the number of threads that numpy and its kin read",
    "nbtasks.worker.threads": "the environment before a task changes it, for a worker that it starts",
    "nbtasks.services": "takes settings and paths along into the worker that the system starts",
}
# Strings that look like names of ours on disk and are none.
NOT_OURS = {"/memory.events": "of a control group", "rich.progress": "a module", "/worker.log": "of a service"}
# Longer than the house allows, and why: files by module, functions by module:qualified.name.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}

FILE_LINES = 300
FUNCTION_LINES = 25

HEAVY = set(
    """
    IPython ipykernel ipywidgets jupyter_client nbformat zmq comm numpy pandas matplotlib psutil filelock rich click
    asyncio cloudpickle multiprocessing subprocess tomllib sqlite3 ssl
    """.split()
)


MODULES = modules()
NAMES = {module.name for module in MODULES}
PACKAGES = {module.name for module in MODULES if module.is_package}


def report(offenders: list[str], rule: str) -> None:
    if offenders:
        pytest.fail("\n  ".join([rule, *offenders]), pytrace=False)


def where(module: Module, line: int) -> str:
    return f"{module.path.relative_to(ROOT)}:{line}"


def test_every_file_has_its_place() -> None:
    unknown = sorted(NAMES - PACKAGES - set(ORDER))
    report(unknown, "Files without a place in FLOORS (tests/test_architecture.py):")


def may_import(module: Module, target: str, top: bool) -> str:
    """Why `module` may not import `target`, or nothing."""
    if module.name == "nbtasks":  # the façade: names from everywhere, each when it is used
        return "the package imports nothing of its own before it is used" if top else ""
    if target in NAMES - set(ORDER) - PACKAGES:
        return ""  # test_every_file_has_its_place speaks of it
    if target not in ORDER:
        if target in PACKAGES - {"nbtasks"} or target == "nbtasks.__version__" or module.name in DOORS:
            return ""
        return "import names from their own module (only __version__ from nbtasks)"
    if module.is_package:
        return "" if not top else "an __init__.py imports nothing"
    if module.name not in ORDER or ORDER.index(target) < ORDER.index(module.name):
        return ""
    return "" if not top and (module.name, target) in LAZY else "upwards"


def test_imports_go_down_the_tree() -> None:
    offenders = [
        f"{where(module, line)} imports {target}: {why}"
        for module in MODULES
        for target, line, top in module.imports
        if (why := may_import(module, target, top))
    ]
    report(offenders, "A file imports only from files above it in FLOORS:")


def test_allowed_lazy_imports_are_all_used() -> None:
    used = {(module.name, target) for module in MODULES for target, _, top in module.imports if not top}
    unused = [f"{who} -> {whom}" for who, whom in LAZY if who in NAMES and (who, whom) not in used]
    report(unused, "LAZY allows what nobody does any more:")


def test_no_cycles() -> None:
    graph = {m.name: {target for target, _, top in m.imports if top and target in NAMES} for m in MODULES}
    cycles: list[str] = []
    finished: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            cycles.append(" -> ".join([*trail[trail.index(name) :], name]))
        elif name not in finished:
            for target in sorted(graph[name]):
                visit(target, [*trail, name])
            finished.add(name)

    for name in sorted(graph):
        visit(name, [])
    report(cycles, "Files that import each other:")


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    return done.stdout


def test_import_is_light() -> None:
    code = "import sys; before = set(sys.modules); import nbtasks; print(*(set(sys.modules) - before))"
    loaded = set(run_python(code).split())
    assert "nbtasks" in loaded
    report(sorted(loaded & HEAVY), "`import nbtasks` loads what only some of its users need:")


def test_every_file_imports_by_itself() -> None:
    code = f"""
import importlib
for name in {sorted(NAMES - {"nbtasks.__main__"})}:
    try: importlib.import_module(name)
    except Exception as error: print(name, repr(error), sep=": ")
"""
    report(run_python(code).splitlines(), "Files that cannot be imported:")


def test_public_names_are_no_modules() -> None:
    # A module `task` would take the place of the decorator `nbtasks.task` as soon as it is imported.
    public = run_python("import nbtasks; print(*nbtasks.__all__)").split()
    assert {"submit", "map", "task", "get", "Task"} <= set(public)
    report([name for name in public if f"nbtasks.{name}" in NAMES], "Public names that are shadowed by a file:")


def test_public_names_are_there() -> None:
    code = "import nbtasks\nfor name in nbtasks.__all__:\n    if not hasattr(nbtasks, name): print(name)"
    report(run_python(code).split(), "Names in nbtasks.__all__ that do not exist:")


def test_files_are_short() -> None:
    lengths = {module.name: len(module.text.splitlines()) for module in MODULES}
    long = {name: lines for name, lines in lengths.items() if lines > FILE_LINES}
    offenders = [f"{name}: {lines} lines" for name, lines in long.items() if name not in LONG_FILES]
    report(offenders, f"Files of more than {FILE_LINES} lines:")
    report([name for name in LONG_FILES if name not in long], "LONG_FILES names what is short or gone:")


def test_functions_are_short() -> None:
    long: dict[str, str] = {}
    for module in MODULES:
        lines = code_lines(module.text)
        for name, function in functions(module.tree, ""):
            if (length := body_length(function, lines)) > FUNCTION_LINES:
                long[f"{module.name}:{name}"] = f"{where(module, function.lineno)} {name}: {length} lines"
    report([text for key, text in long.items() if key not in LONG_FUNCTIONS], f"Longer than {FUNCTION_LINES} lines:")
    report([key for key in LONG_FUNCTIONS if key not in long], "LONG_FUNCTIONS names what is short or gone:")


def test_the_environment_is_read_in_one_place() -> None:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    offenders = []
    for module in MODULES:
        if module.name == "nbtasks.config" or module.name in ENVIRONMENT:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os" and node.attr in names:
                offenders.append(where(module, node.lineno))
            if isinstance(node, ast.ImportFrom) and node.module == "os" and names & {name.name for name in node.names}:
                offenders.append(where(module, node.lineno))
    report(offenders, "The environment is read in config.py; others ask settings() (or stand in ENVIRONMENT):")


KINDS = (layout.CALL, layout.LOG, layout.EVENTS, layout.PROGRESS, layout.STARTED, layout.OUTCOME)
TOPS = "|".join(sorted({folder.partition("/")[0] for folder in layout.FOLDERS}))
ON_DISK = re.compile(
    rf"(?:^|/)(?:{TOPS})/|^/(?:{TOPS})$|\.(?:{'|'.join(KINDS)})$|^{re.escape(layout.FOLDER)}$|{re.escape(layout.MARK)}"
)


def test_names_on_disk_are_in_layout_only() -> None:
    offenders = [
        f"{where(module, line)} {text!r}"
        for module in MODULES
        if module.name != "nbtasks.queue.layout"
        for line, text in literals(module.tree)
        if ON_DISK.search(text) and not re.search(r"\s", text) and text not in NOT_OURS
    ]
    report(offenders, "File and folder names of a queue stand in queue/layout.py only:")


def test_format_describes_every_folder_and_file() -> None:
    page = ROOT / "docs" / "format.md"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    words = [f"{folder}/" for folder in layout.FOLDERS] + [f".{kind}" for kind in KINDS]
    words += [layout.MARK, layout.README, "paused", "flushed"]
    report([word for word in words if word not in text], "docs/format.md does not speak of:")
