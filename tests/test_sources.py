"""The project's modules as they were at submit: in the slot they are true modules, and no later edit is seen."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nbtasks import sources
from nbtasks.blobs import Blobs
from nbtasks.durable import RealDisk

FILES = {
    "helper.py": """
        import enum
        class Colour(enum.Enum):
            RED = 1
        class Thing:
            def fail(self):
                raise ValueError("from the thing")  # the line as it was submitted
        def answer():
            return 42
    """,
    "pipeline.py": """
        from helper import Colour, Thing, answer
        def run(thing):
            return isinstance(thing, Thing), thing.colour is Colour.RED, answer()
    """,
    "pack/__init__.py": "from .sub import inner\nVERSION = 1\n",
    "pack/sub/__init__.py": "from . import inner\n",
    "pack/sub/inner.py": "import pack\nwhere = __file__\n",
    "pack/late.py": "here = 'from the disk'\n",
    "names/plain.py": "value = 7\n",
}

# The one that submits: imports, freezes, pickles, and then the test edits the files.
KERNEL = """
    import pickle, sys
    import msgspec
    from nbtasks import payload, sources
    from nbtasks.blobs import Blobs
    from nbtasks.durable import RealDisk
    folder, store = sys.argv[1:3]
    sys.path.insert(0, folder)
    blobs = Blobs(RealDisk(), store)
    def submit(name, obj):
        frozen = msgspec.json.encode(sources.freeze(blobs))
        with open(f"{store}-{name}", "wb") as file:
            pickle.dump((frozen, bytes(payload.dump("function", obj).view())), file)
"""
SLOT = """
    import importlib, inspect, linecache, pickle, sys, traceback
    import msgspec
    from nbtasks import payload, sources
    from nbtasks.blobs import Blobs
    from nbtasks.durable import RealDisk
    folder, store = sys.argv[1:3]
    blobs = Blobs(RealDisk(), store)
    reads = []
    def read(hash):
        reads.append(hash)
        return blobs.read(hash)
    def take(name):
        with open(f"{store}-{name}", "rb") as file:
            frozen, data = pickle.load(file)
        sources.serve(msgspec.json.decode(frozen, type=dict[str, sources.Source]), read)
        return payload.load(payload.Part("function", data))
"""


class Project:
    """A folder of modules, and processes that submit from it and run what was submitted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "project"
        for name, text in FILES.items():
            self.save(name, text)

    def save(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def _run(self, before: str, code: str) -> list[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        text = textwrap.dedent(before) + textwrap.dedent(code)
        ran = subprocess.run(
            [sys.executable, "-c", text, str(self.folder), str(self.root / "blobs")],
            capture_output=True, text=True, timeout=60, cwd=self.root, env=environment,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()

    def submit(self, code: str) -> list[str]:
        return self._run(KERNEL, code)

    def run(self, code: str) -> list[str]:
        return self._run(SLOT, code)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


THING = """
    import helper, pipeline
    thing = helper.Thing()
    thing.colour = helper.Colour.RED
    submit("a", (pipeline.run, thing))
"""


def test_isinstance_and_enum_identity_hold(project: Project) -> None:
    project.submit(THING)
    assert project.run("""
        run, thing = take("a")
        import helper
        print(run(thing), type(thing) is helper.Thing)
    """) == ["(True, True, 42) True"]  # fmt: skip


def test_an_edit_after_submit_is_not_seen_and_the_next_submit_has_it(project: Project) -> None:
    project.submit(
        THING
        + textwrap.indent(
            textwrap.dedent("""
            text = open(folder + "/helper.py").read()
            with open(folder + "/helper.py", "w") as file:
                file.write(text.replace("42", "43"))
            submit("b", (pipeline.run, thing))
            """),
            "    ",
        )
    )
    for code in ("", "sys.path.insert(0, folder); import helper"):
        assert project.run(f"""
        {code}
        for name in "abab":
            run, thing = take(name)
            print(run(thing))
        """) == ["(True, True, 42)", "(True, True, 43)"] * 2  # fmt: skip


def test_none_of_the_files_is_needed(project: Project) -> None:
    project.submit(
        """
        import helper, names.plain, pack.sub.inner, pipeline
        submit("a", (pipeline.run, helper.Thing, names.plain, pack.sub.inner, pack))
        """
    )
    os.rename(project.folder, project.root / "elsewhere")
    assert project.run("""
        run, Thing, plain, inner, pack = take("a")
        print(plain.value, inner.where == folder + "/pack/sub/inner.py", pack.sub.inner is inner, inner.pack is pack)
        print(pack.VERSION, pack.__path__ == [folder + "/pack"], Thing.__module__)
        print(inspect.getsource(run).splitlines()[0])
    """) == ["7 True True True", "1 True helper", "def run(thing):"]  # fmt: skip


def test_tracebacks_show_the_source_that_runs(project: Project) -> None:
    project.submit(THING)
    text = (project.folder / "helper.py").read_text()
    project.save("helper.py", "# one line more\n" + text.replace("as it was submitted", "as it was edited"))
    lines = project.run("""
        run, thing = take("a")
        import helper
        linecache.checkcache()
        try:
            thing.fail()
        except ValueError:
            print(traceback.format_exc())
        print(inspect.getsource(helper.answer))
        print(importlib.reload(helper).__file__ == folder + "/helper.py", helper.answer())
    """)
    assert any("as it was submitted" in line for line in lines)
    assert any(str(project.folder / "helper.py") in line for line in lines)
    assert lines[-4:] == ["def answer():", "    return 42", "", "True 42"]


def test_what_was_not_loaded_comes_from_the_disk(project: Project) -> None:
    project.submit("import pack; submit('a', pack)")
    assert project.run("""
        pack = take("a")
        import pack.late
        print(pack.late.here)
    """) == ["from the disk"]  # fmt: skip


def test_a_warm_slot_does_not_keep_an_older_form_of_what_came_from_the_disk(project: Project) -> None:
    project.submit("import pack; submit('a', pack); submit('b', pack)")
    assert project.run("""
        import os
        for name in "ab":
            take(name)
            import pack.late
            print(pack.late.here)
            with open(folder + "/pack/late.py", "w") as file:
                file.write("here = 'edited since'")
    """) == ["from the disk", "edited since"]  # fmt: skip


def test_a_warm_slot_keeps_modules_that_did_not_change(project: Project) -> None:
    project.submit(THING + '    submit("b", (pipeline.run, thing))')
    assert project.run("""
        first = take("a")
        count = len(reads)
        second = take("b")
        print(first[0] is second[0], len(reads) == count)
    """) == ["True True"]  # fmt: skip


def test_a_module_that_takes_names_from_a_changed_one_is_dropped_too(project: Project) -> None:
    project.submit(
        """
        import helper, pipeline
        submit("a", pipeline)
        with open(folder + "/helper.py", "a") as file:
            file.write("answer = lambda: 'new'")
        submit("b", pipeline)
        """
    )
    assert project.run("""
        print(take("a").answer(), take("b").answer(), take("a").answer())
    """) == ["42 new 42"]  # fmt: skip


def test_a_slot_passes_on_what_it_runs(project: Project) -> None:
    """A task that submits a task: its own code goes on, not what lies on the disk by now."""
    project.submit(THING)
    project.save("helper.py", "raise RuntimeError('edited')")
    assert project.run("""
        run, thing = take("a")
        other = Blobs(RealDisk(), store + "-other")
        frozen = sources.freeze(other)
        print("as it was submitted" in other.read(frozen["helper"].blob).decode(), sorted(frozen))
    """) == ["True ['helper', 'pipeline']"]  # fmt: skip


def test_an_altered_blob_is_not_run(project: Project) -> None:
    project.submit(THING)
    for blob in (project.root / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_text(blob.read_text() + "\nprint('evil')\n")
    assert project.run("""
        try:
            take("a")
        except payload.PayloadError as error:
            print("altered" in str(error))
    """) == ["True"]  # fmt: skip


def test_a_file_with_another_encoding(project: Project) -> None:
    (project.folder / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\n".encode("latin-1"))
    project.submit("import latin; submit('a', latin)")
    assert project.run(
        "print(ascii(take('a').name), linecache.getline(folder + '/latin.py', 2).strip() == \"name = 'é'\")"
    ) == ["'\\xe9' True"]


def test_bytecode_is_used_only_when_it_is_that_of_the_frozen_source(project: Project) -> None:
    """Same size, same second: Python alone would take the older bytecode."""
    path = project.folder / "helper.py"
    os.utime(path, (1_700_000_000, 1_700_000_000))
    project.submit(THING)
    path.write_text(path.read_text().replace("42", "43"))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert project.run("print(take('a')[0](take('a')[1]))") == ["(True, True, 42)"]
    project.submit("""
        sys.dont_write_bytecode = True
        import helper
        submit("b", helper.answer)
    """)
    assert project.run("print(take('b')())") == ["43"]


def test_only_the_projects_modules_are_frozen(project: Project) -> None:
    assert project.submit("""
        import json, numpy, sklearn, msgspec, nbtasks.status, helper, names.plain, pack
        frozen = sources.freeze(blobs)
        print(sorted(frozen))
        print(frozen["helper"].file == folder + "/helper.py", frozen["pack"].package, frozen["names"].file == "")
        print(sources.freeze(blobs) is frozen)
    """) == [
        "['helper', 'names', 'names.plain', 'pack', 'pack.sub', 'pack.sub.inner']",
        "True True True",
        "True",
    ]  # fmt: skip


def test_each_edit_is_frozen_anew_and_a_file_that_is_away_stays_as_it_was(project: Project) -> None:
    assert project.submit("""
        import os
        import helper
        seen = []
        for number in range(30):
            with open(folder + "/helper.py", "w") as file:
                file.write(f"x = {number:04}")
            seen.append(blobs.read(sources.freeze(blobs)["helper"].blob).decode())
        print(seen == [f"x = {number:04}" for number in range(30)])
        os.unlink(folder + "/helper.py")
        print(blobs.read(sources.freeze(blobs)["helper"].blob).decode())
    """) == ["True", "x = 0029"]  # fmt: skip


def test_a_file_saved_after_its_import_is_told(project: Project) -> None:
    assert project.submit("""
        import importlib, os
        import helper, pipeline
        print(sources.saved_after_import())
        with open(folder + "/helper.py", "a") as file:
            file.write("x = 1")
        os.utime(folder + "/helper.py", (1_700_000_000, 1_700_000_000))
        told = sources.saved_after_import()
        print(told == [("helper", folder + "/helper.py", 1_700_000_000)])
        importlib.reload(helper)
        print(sources.saved_after_import())
    """) == ["[]", "True", "[]"]  # fmt: skip


def test_a_file_saved_before_the_first_look_is_told_too(project: Project) -> None:
    assert project.submit("""
        import helper, pipeline
        with open(folder + "/helper.py", "a") as file:
            file.write("x = 1")
        print([name for name, _, _ in sources.saved_after_import()])
    """) == ["['helper']"]  # fmt: skip


def test_freezing_goes_into_the_blobs_that_are_given(tmp_path: Path) -> None:
    one, two = (Blobs(RealDisk(), str(tmp_path / name)) for name in ("one", "two"))
    for blobs in (one, two, one):
        for source in sources.freeze(blobs).values():
            assert not source.file or blobs.has(source.blob)
    assert __name__ in sources.freeze(one)


def test_a_module_whose_file_is_gone_goes_into_the_blobs_of_the_next_queue(tmp_path: Path) -> None:
    (tmp_path / "gone_soon.py").write_text("def give():\n    return 1\n")
    code = f"""
import os, shutil, sys
sys.path.insert(0, {str(tmp_path)!r})
import gone_soon
from nbtasks import sources
from nbtasks.blobs import Blobs
from nbtasks.durable import RealDisk
one, two = (Blobs(RealDisk(), {str(tmp_path)!r} + "/" + name) for name in ("one", "two"))
sources.freeze(one)
os.unlink(gone_soon.__file__)
print(two.read(sources.freeze(two)["gone_soon"].blob).decode())
shutil.rmtree(one.folder)  # blobs were removed
sources.forget()
print(one.read(sources.freeze(one)["gone_soon"].blob).decode())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.count("def give()") == 2
