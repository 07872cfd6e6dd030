"""The tests' own tool: if this fails, look here first."""

from __future__ import annotations

import pytest

from tests.browser.conftest import LOAD, Opener


@pytest.mark.torture  # the others use it
def test_a_notebook_is_opened_run_saved_and_reloaded(open_notebook: Opener) -> None:
    page = open_notebook([LOAD, "from IPython.display import HTML\nHTML('<b id=here>2</b><button>Go</button>')"])
    page.run_all()
    assert page.wait_for(1, "#here").inner_text() == "2"
    page.press("Go", 1)
    assert page.execute("print(6 * 7)") == "42"
    assert page.save()["cells"][1]["outputs"][0]["output_type"] == "execute_result"
    page.reload()
    page.wait_text(1, "2")
    assert page.execute("print('nbtasks' in dir())") == "True"
    page.restart_kernel()
    assert page.execute("print('nbtasks' in dir())") == "False"
    assert page.shot("page").stat().st_size > 5_000
