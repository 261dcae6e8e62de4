"""The pytest plugin in a separate package, with only Chiltepin and one test file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

PRODUCTION = """
compute:
  provider: slurm
  account: my-project
  working_dir: hpc-scratch:/work
data:
  backend: globus
  endpoints:
    my-laptop:
      globus: 12345678-1234-1234-1234-123456789abc
    hpc-scratch:
      globus: {collection: 87654321-4321-4321-4321-cba987654321, mount: /scratch}
"""


@pytest.fixture
def package(tmp_path):
    """Return a function that writes one test file into an empty folder and runs pytest there."""

    def run(test, *, passed, failed=0):
        (tmp_path / "test_mine.py").write_text(textwrap.dedent(test))
        # A relative PYTHONPATH would be wrong in that folder.
        search = os.pathsep.join(os.path.abspath(part) for part in sys.path if part)
        environment = {**os.environ, "PYTHONPATH": search, "PYTEST_ADDOPTS": ""}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
        done = subprocess.run(
            command, cwd=tmp_path, check=False, capture_output=True, text=True, env=environment, timeout=100
        )
        summary = f"{failed} failed, {passed} passed" if failed else f"{passed} passed"
        assert summary in done.stdout, done.stdout + done.stderr
        return done.stdout

    run.folder = tmp_path
    return run


def test_a_test_that_asks_for_nothing_loads_nothing(package):
    """If Chiltepin is installed, pytest starts without its heavy imports."""
    package(
        """
        import sys

        def test_light():
            assert "chiltepin.testing.plugin" in sys.modules
            heavy = {"parsl", "globus_sdk", "fsspec", "flask", "pydantic", "yaml", "chiltepin.testing.sandbox"}
            assert not heavy & set(sys.modules)
        """,
        passed=1,
    )


def test_the_sandbox_runs_a_pipeline_and_tells_what_was_moved(package):
    """One fixture provides endpoints, a running workflow and the exact list of moved files; each test starts empty."""
    package(
        """
        import pytest
        from chiltepin import Workflow, delete_task, transfer, transfer_task
        from chiltepin.errors import TaskFailedError

        def pipeline():
            sent = transfer_task("my-laptop", "hpc-scratch", "/in", "/run", executor="local", recursive=True)
            return transfer_task("hpc-scratch", "my-laptop", "run/b", "/out/b", executor="local", inputs=[sent])

        def test_moved(chiltepin_sandbox):
            assert chiltepin_sandbox.moved == []
            chiltepin_sandbox.put("my-laptop", "/in/a", "1")
            assert chiltepin_sandbox.put("my-laptop", "/in/sub/c", b"3").read_bytes() == b"3"
            chiltepin_sandbox.put("my-laptop", "/in/b", "2")
            assert pipeline().result(60)
            assert chiltepin_sandbox.moved == [
                ("hpc-scratch:/run/b", "my-laptop:/out/b"),
                ("my-laptop:/in/a", "hpc-scratch:/run/a"),
                ("my-laptop:/in/b", "hpc-scratch:/run/b"),
                ("my-laptop:/in/sub/c", "hpc-scratch:/run/sub/c"),
            ]
            assert chiltepin_sandbox.files("hpc-scratch") == ["/run/a", "/run/b", "/run/sub/c"]
            assert chiltepin_sandbox.path("my-laptop", "/out/b").read_text() == "2"

        def test_what_is_not_moved(chiltepin_sandbox):
            assert chiltepin_sandbox.files("my-laptop") == []
            chiltepin_sandbox.put("my-laptop", "/in/a", "1")
            for _ in range(2):
                assert transfer("my-laptop", "hpc-scratch", "/in/a", "/a", sync_level="checksum")
                assert transfer("my-laptop", "hpc-scratch", "/in", "/in", recursive=True, sync_level="size")
            with pytest.raises(TaskFailedError):
                transfer("my-laptop", "hpc-scratch", "/none", "/none")
            assert chiltepin_sandbox.moved == [
                ("my-laptop:/in/a", "hpc-scratch:/a"), ("my-laptop:/in/a", "hpc-scratch:/in/a"),
            ]

        def test_a_workflow_of_its_own(chiltepin_sandbox, tmp_path):
            chiltepin_sandbox.put("my-laptop", "/a", "1")
            for settings in (None, chiltepin_sandbox.file):
                with Workflow(settings, run_dir=tmp_path):
                    transfer_task("my-laptop", "hpc-scratch", "/a", "/b", executor="local")
            assert chiltepin_sandbox.moved == [("my-laptop:/a", "hpc-scratch:/b")] * 2

        def test_the_end_waits(chiltepin_sandbox, request):
            chiltepin_sandbox.put("my-laptop", "/a", "1")
            path = chiltepin_sandbox.path("hpc-scratch", "/a")
            transfer_task("my-laptop", "hpc-scratch", "/a", "/a", executor="local")
            request.session.awaited = path

        def test_the_end_has_waited(request):
            assert request.session.awaited.read_text() == "1"
        """,
        passed=5,
    )
    assert [path.name for path in package.folder.iterdir() if path.name not in ("test_mine.py", "__pycache__")] == []


def test_the_settings_of_production_are_those_of_the_test(package):
    """The endpoints of a settings file become folders, also by their UUIDs, and its batch system a pool of threads."""
    (package.folder / "production.yaml").write_text(PRODUCTION)
    package(
        """
        import pytest
        from parsl.data_provider.files import File
        from chiltepin import python_task, transfer_task

        @pytest.fixture
        def chiltepin_settings():
            return "production.yaml"

        @python_task
        def count(file):
            with open(file) as lines:
                return len(lines.readlines())

        def test_production(chiltepin_sandbox):
            chiltepin_sandbox.put("my-laptop", "/a.csv", "1\\n2\\n")
            laptop, scratch = "12345678-1234-1234-1234-123456789abc", "87654321-4321-4321-4321-cba987654321"
            assert transfer_task(laptop, scratch, "/a.csv", "/b.csv", executor="compute").result(60)
            assert count(File("chiltepin://my-laptop/a.csv"), executor="compute").result(60) == 2
            assert chiltepin_sandbox.moved == [
                ("my-laptop:/a.csv", "hpc-scratch:/b.csv"),
                ("my-laptop:/a.csv", "hpc-scratch:/work/in/my-laptop/a.csv"),
            ]
        """,
        passed=1,
    )


def test_the_journal_of_production_shows_no_task_of_a_test(package):
    """Tasks of tests are recorded in a journal in their folder, which `false` in the settings disables."""
    production = package.folder / "prod-journal"
    (package.folder / "production.yaml").write_text(f"{PRODUCTION.rstrip()}\n  journal: {production}\n")
    package(
        """
        import os
        import pytest
        from chiltepin import transfer, transfer_task

        @pytest.fixture(params=["journal", "none"])
        def chiltepin_settings(request):
            if request.param == "journal":
                return "production.yaml"
            return {"data": {"endpoints": {"my-laptop": None, "hpc-scratch": None}, "journal": False}}

        @pytest.fixture(autouse=True)
        def users(monkeypatch, tmp_path):
            monkeypatch.setenv("CHILTEPIN_JOURNAL", str(tmp_path / "users"))
            yield
            assert not (tmp_path / "users").exists()

        def test_sandbox(chiltepin_sandbox, chiltepin_settings, tmp_path):
            chiltepin_sandbox.put("my-laptop", "/in")
            assert transfer_task("my-laptop", "hpc-scratch", "/in", "/out", executor="local").result(60)
            assert transfer("my-laptop", "hpc-scratch", "/in", "/out")
            assert (tmp_path / "sandbox" / "journal").exists() is (chiltepin_settings == "production.yaml")

        def test_globus(chiltepin_globus, tmp_path, monkeypatch):
            (tmp_path / "my-laptop" / "in").write_text("x")
            (tmp_path / "chiltepin.yaml").write_text("data: {backend: globus}")
            monkeypatch.chdir(tmp_path)
            assert transfer("my-laptop", "hpc-scratch", "/in", "/out")
            assert list((tmp_path / "journal").iterdir())
        """,
        passed=3,
    )
    assert not production.exists()


def test_a_wrong_list_and_wrong_settings_fail_in_words(package):
    """A file that was not moved is reported as missing, and invalid settings are reported with their location."""
    (package.folder / "wrong.yaml").write_text("compute: {partion: gpu}\n")
    said = package(
        """
        import pytest

        class TestWrong:
            @pytest.fixture
            def chiltepin_settings(self):
                return "wrong.yaml"

            def test_settings(self, chiltepin_sandbox):
                pass

        def test_list(chiltepin_sandbox):
            assert chiltepin_sandbox.moved == [("my-laptop:/a", "hpc-scratch:/b")]

        def test_fine(chiltepin_sandbox):
            pass
        """,
        passed=1,
        failed=1,
    )
    assert "wrong.yaml:1: compute.partion is not a valid key of a resource; did you mean 'partition'?" in said
    assert "Right contains one more item: ('my-laptop:/a', 'hpc-scratch:/b')" in said


def test_nothing_in_the_sandbox_moves_files_of_a_session_workflow(package):
    """With a workflow for the whole session, tasks and callbacks in a sandbox move only the sandbox's files."""
    package(
        """
        import threading
        import pytest
        from chiltepin import Workflow, join_task, python_task, transfer, transfer_task

        ENDS = ("my-laptop", "hpc-scratch")

        @pytest.fixture(scope="session", autouse=True)
        def production(tmp_path_factory):
            top = tmp_path_factory.mktemp("production")
            (top / "my-laptop").mkdir()
            (top / "hpc-scratch").mkdir()
            (top / "my-laptop/in").write_text("production")
            places = {"backend": "local", "root": str(top), "journal": False, "endpoints": dict.fromkeys(ENDS)}
            with Workflow({"data": places}, run_dir=top / "run"):
                yield top

        @python_task
        def task():
            return transfer(*ENDS, "/in", "/task")

        @join_task
        def join():
            return transfer_task(*ENDS, "/in", "/join", executor="local")

        def test_mine(chiltepin_sandbox, production):
            chiltepin_sandbox.put("my-laptop", "/in", "x")
            called = threading.Event()
            future = transfer_task(*ENDS, "/in", "/direct", executor="local")
            future.add_done_callback(lambda _: (transfer(*ENDS, "/in", "/callback"), called.set()))
            assert future.result(60) and task(executor="local").result(60) and join().result(60)
            assert called.wait(60)
            assert chiltepin_sandbox.files("hpc-scratch") == ["/callback", "/direct", "/join", "/task"]
            assert not list((production / "hpc-scratch").iterdir())
        """,
        passed=1,
    )
