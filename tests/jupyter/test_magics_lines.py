"""``%background``, help and tab completion, through a real ipykernel."""

from __future__ import annotations

import pytest

from tests.jupyter.kernel import Gate, Kernel
from tests.jupyter.test_magics import background, short_id


def complete(kernel: Kernel, code: str, at: str = "") -> dict[str, str]:
    """What is offered at the end of `code` (or of `at` in it), with what it is, as JupyterLab asks for it."""
    cursor = code.index(at) + len(at) if at else len(code)
    reply = kernel.client.complete(code, cursor, reply=True, timeout=60)["content"]
    kinds = {one["text"]: one["type"] for one in reply["metadata"].get("_jupyter_types_experimental", [])}
    word = code[reply["cursor_start"] : cursor]
    assert all(text.startswith(word) for text in reply["matches"]), (word, reply)
    return {text: kinds[text] for text in reply["matches"]}


def test_a_line_runs_in_the_background(kernel: Kernel) -> None:
    gate = Gate(kernel)
    kernel.run(f"def wait():\n    {gate.code_inside(4)}return {{'done'}}\nprefix = 'all'")
    cell = kernel.run("%background -n slow --timeout 1h state = {prefix: wait()}")
    assert cell.status == "ok", cell.error
    assert " slow " in cell.card
    assert kernel.run("print(1)").text == "1\n"
    gate.open()
    kernel.until(lambda: "  succeeded" in cell.card, "the end")
    assert kernel.ask("state") == "{'all': {'done'}}", "braces are Python's"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "%background: there is nothing to run; %background --help says how it is used"),
        ("--retires 3 f()", "%background: no option --retires; did you mean --retries?"),
        ("-n", "%background: argument -n/--name: expected one argument"),
        ("x = = 2", "%background: this is no Python, so nothing was submitted:"),
    ],
)
def test_a_wrong_line_is_one_error_and_nothing_is_queued(kernel: Kernel, line: str, says: str) -> None:
    before = kernel.ask("len(nbtasks.tasks())")
    cell = kernel.run(f"%background {line}")
    assert cell.status == "error"
    assert says in cell.text
    assert "Traceback" not in cell.text + cell.error
    assert kernel.ask("len(nbtasks.tasks())") == before


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%%background --help", "%%background -n fit --notify\n  model = train(X, y, epochs=200)"),
        ("%%background -h\nx = 1", "%%background -n fit"),
        ("%background --help", "%background --timeout 2h model = train(X, y)"),
        ("%tasks --help", "%tasks running queued --mine"),
        ("%task --help", "%task k7q2 logs"),
        ("%wait -h", "%wait k7q2 fit --timeout 10m"),
    ],
)
def test_help_has_an_example(kernel: Kernel, code: str, says: str) -> None:
    before = kernel.ask("len(nbtasks.tasks())")
    cell = kernel.run(code)
    assert cell.status == "ok", cell.error
    assert cell.text.startswith("usage: %")
    assert says in cell.text.partition("example:\n  ")[2]
    assert kernel.ask("len(nbtasks.tasks())") == before


@pytest.mark.parametrize("name", ["%background", "%%background", "%tasks", "%task", "%wait"])
def test_a_question_mark_shows_the_help(kernel: Kernel, name: str) -> None:
    asked = kernel.client.execute(f"{name}?", reply=True, timeout=60)["content"]
    assert asked["status"] == "ok"
    (page,) = asked["payload"]
    assert f"usage: {name} [" in page["data"]["text/plain"]


def test_options_are_completed(kernel: Kernel) -> None:
    assert complete(kernel, "%%background --re") == {
        "--retries": "run it again after a failure, N times at most",
        "--replace": "cancel what this cell has running, then run it",
        "--resource": "it needs N (1) of what the settings say this machine has",
    }
    assert "--grace" not in complete(kernel, "%%background -")
    assert list(complete(kernel, "%%background -n fit --fr\nx = 1", at="--fr")) == ["--fresh"]
    assert list(complete(kernel, "%background --fr")) == ["--fresh"]
    assert "--mine" in complete(kernel, "%tasks --")
    assert list(complete(kernel, "%wait --t")) == ["--timeout"]


def test_variables_and_outputs_are_completed(kernel: Kernel) -> None:
    kernel.run("dataset, data_too, other = [1], {2: 3}, 4\nimport os; os.environ['SECRET_TOKEN'] = 'hidden'")
    assert complete(kernel, "%%background -i dat") == {"dataset": "list", "data_too": "dict"}
    assert complete(kernel, "%%background -i other,data\nx = 1", at="other,data") == {
        "dataset": "list",
        "data_too": "dict",
    }
    assert complete(kernel, "%%background sc\nscore = 1\nscale = score\nother = 2", at=" sc") == {
        "score": "assigned",
        "scale": "assigned",
    }
    assert complete(kernel, "%%background --env SECRET_") == {"SECRET_TOKEN": "environment"}


def test_ids_verbs_and_statuses_are_completed(kernel: Kernel) -> None:
    gate = Gate(kernel)
    done = short_id(background(kernel, "x = 1", "-n done", until="succeeded"))
    cell = background(kernel, gate.code, "-n slow --as handle_of_it", until="running")
    live = short_id(cell)
    tasks = complete(kernel, "%task ")
    assert tasks[done] == "done, succeeded"
    assert tasks[live] == "slow, running"
    assert tasks["handle_of_it"] == f"slow {live}, running"
    assert complete(kernel, "%wait h") == {"handle_of_it": f"slow {live}, running"}
    assert done not in complete(kernel, "%wait "), "only what lives"
    assert live in complete(kernel, "%%background --after ")
    assert complete(kernel, f"%task {live} r") == dict.fromkeys(["result", "retry", "rm"], "verb")
    assert complete(kernel, "%tasks ru") == {"running": "status"}
    gate.open()
    kernel.run("%wait")


def test_a_cell_that_is_being_typed_is_incomplete(kernel: Kernel) -> None:
    """A console goes on asking for lines."""
    kernel.client.is_complete("%%background\nfor n in range(3):\n")
    assert kernel.client.get_shell_msg(timeout=60)["content"]["status"] == "incomplete"


def test_python_is_completed_as_ever(kernel: Kernel) -> None:
    kernel.run("dataset = [1]")
    for code in ("datas", "%%background\ndatas", "%background x = datas", "%%background -n x\nlen(datas"):
        reply = kernel.client.complete(code, len(code), reply=True, timeout=60)["content"]
        assert reply["matches"] == ["dataset"], code
