"""Files of the user's: run as they were read, and blamed by line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from qtrade.errors import DataError, UsageError
from qtrade.user_code import UserFile


def written(folder: Path, text: str) -> UserFile:
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return UserFile.read(path)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.py") as caught:
        UserFile.read(tmp_path / "none.py")
    assert caught.value.why == "No such file or directory"
    assert caught.value.exit_code == 2


def test_it_runs_what_was_read_and_remembers_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, "seen = []\n\ndef ask():\n    seen.append(1)\n    return len(seen)\n")
    file.path.write_text("raise SystemExit")
    copy: UserFile = pickle.loads(pickle.dumps(file))  # noqa: S301
    for _ in range(2):
        _, (ask,) = copy.functions("ask", example="")
        assert ask() == 1
    assert copy.sha256 == file.sha256 != UserFile.read(file.path).sha256
    assert not list(tmp_path.glob("__pycache__")), "nothing is left beside the user's file"


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero", "line 2: y = x / 0"),
        ("x = 1\n\ndef f(:\n", "SyntaxError: invalid syntax", "line 3: def f(:"),
        ("import sys\nsys.exit(7)\n", "SystemExit: 7", "line 2: sys.exit(7)"),
        ("import no_such_module_at_all\n", "ModuleNotFoundError", "line 1: import no_such_module_at_all"),
    ],
)
def test_a_file_that_fails_is_blamed_with_its_line(tmp_path: Path, text: str, why: str, line: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(UsageError, match=r"mine\.py cannot be loaded") as caught:
        file.run()
    assert why in caught.value.why
    assert caught.value.fix == f"see {file.path}, {line}"


def test_a_failure_deep_in_a_library_is_blamed_on_the_line_that_called_it(tmp_path: Path) -> None:
    file = written(tmp_path, "import json\n\ndef ask():\n    return json.loads('{')\n")
    _, (ask,) = file.functions("ask", example="")
    with pytest.raises(UsageError) as caught, file.blamed("asking failed"):
        ask()
    assert caught.value.what == "asking failed"
    assert caught.value.fix == f"see {file.path}, line 4: return json.loads('{{')"


def test_errors_that_explain_themselves_and_interrupts_pass(tmp_path: Path) -> None:
    file = written(tmp_path, "")
    with pytest.raises(DataError, match="as it is"), file.blamed("failed"):
        raise DataError("as it is")
    with pytest.raises(KeyboardInterrupt), file.blamed("failed"):
        raise KeyboardInterrupt


def test_a_missing_function_is_shown(tmp_path: Path) -> None:
    file = written(tmp_path, "ask = 3\n\ndef tell():\n    pass\n")
    with pytest.raises(UsageError, match=r"mine\.py must define ask and tell, and lacks ask") as caught:
        file.functions("ask", "tell", example="def ask(): ...")
    assert caught.value.fix == "write it like this:\n\ndef ask(): ..."


def test_bytes_that_are_not_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_bytes(b"x = '\xff\xfe'\n")
    with pytest.raises(UsageError, match="cannot be loaded"):
        UserFile.read(path).run()


def test_an_annotated_dataclass_finds_its_module(tmp_path: Path) -> None:
    lines = ("from __future__ import annotations", "from dataclasses import dataclass", "", "@dataclass", "class A:")
    assert written(tmp_path, "\n".join((*lines, "    x: int = 3", ""))).run().A().x == 3


def test_what_a_file_prints_goes_where_messages_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "print('loading')\n\ndef ask():\n    print('asked')\n")
    _, (ask,) = file.functions("ask", example="")
    with file.blamed("asking failed"):
        ask()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "loading\nasked\n")


def test_what_another_file_of_the_users_remembers_is_gone_at_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_helper.py").write_text("SEEN = []\n", encoding="utf-8")
    file = written(
        tmp_path, "import my_helper\n\ndef ask():\n    my_helper.SEEN.append(1)\n    return my_helper.SEEN\n"
    )
    for _ in range(2):
        _, (ask,) = file.functions("ask", example="")
        assert ask() == [1]
    before = file.with_imports()
    assert before != file.sha256, "the helper is part of what was run"
    (tmp_path / "my_helper.py").write_text("SEEN = []  # changed\n", encoding="utf-8")
    file.run()
    assert file.with_imports() != before
    alone = written(tmp_path, "import json\nimport numpy\n")
    alone.run()
    assert alone.with_imports() == alone.sha256


def test_an_error_that_explains_itself_still_says_where_it_was_met(tmp_path: Path) -> None:
    file = written(
        tmp_path, "from qtrade.errors import UsageError\n\ndef ask():\n    raise UsageError('no', fix='do it')\n"
    )
    _, (ask,) = file.functions("ask", example="")
    with pytest.raises(UsageError) as caught, file.blamed("asking failed"):
        ask()
    assert caught.value.what == "no"
    assert caught.value.fix == f"do it; see {file.path}, line 4: raise UsageError('no', fix='do it')"
