"""Staging of Parsl files to the apps that read them and from the apps that write them, on every backend."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from parsl import bash_app, python_app
from parsl.data_provider.files import File
from parsl.dataflow.errors import DependencyError

import chiltepin
from chiltepin import configure, delete_task, join_task, python_task, staging, transfer_task
from chiltepin.errors import ConfigError, TaskFailedError
from chiltepin.model import endpoint_name
from chiltepin.parsl.files import location_of, url_of
from chiltepin.parsl.shutdown import shutdown_of
from chiltepin.protocol import paths

LIMIT = 60
HERE = Path(__file__).parent


class World:
    """Two endpoints in folders, and settings in which apps see the second."""

    def __init__(self, folder, backend, resource):
        self.laptop, self.scratch = folder / "my-laptop", folder / "hpc-scratch"
        for place in (self.laptop, self.scratch):
            place.mkdir(exist_ok=True)
        endpoints = {
            place.name: {"globus": {"collection": "this-machine", "mount": str(place)}, "filesystem": str(place)}
            for place in (self.laptop, self.scratch)
        }
        self.settings = {
            "local": {**resource, "working_dir": "hpc-scratch:/work"},
            "data": {"backend": backend, "root": str(folder), "fault_grace": 0.5, "endpoints": endpoints},
        }
        self.folder = folder

    def put(self, path, text):
        """Write a file on the laptop."""
        place = self.laptop / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def staged(self):
        """The files in the working folder."""
        work = self.scratch / "work"
        return sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())


def at_globus(world, globus):
    """Use collections of the simulated Globus as the endpoints of a world."""
    for name, endpoint in world.settings["data"]["endpoints"].items():
        endpoint["globus"]["collection"] = globus.collection(name).id


@pytest.fixture(params=["local", "filesystem", "globus"])
def world(request, tmp_path):
    """The same folders behind each backend, with apps on threads."""
    made = World(tmp_path, request.param, {"provider": "threads", "max_threads": 2})
    if request.param == "globus":
        at_globus(made, request.getfixturevalue("chiltepin_globus"))
    return made


@pytest.fixture
def folders(tmp_path):
    """Folders of one machine, behind the backend ``local``."""
    return World(tmp_path, "local", {"provider": "threads", "max_threads": 2})


@pytest.fixture
def running(world):
    """A workflow over the same folders."""
    with chiltepin.Workflow(world.settings, run_dir=world.folder / "runinfo") as workflow:
        yield workflow


@pytest.fixture
def offline(folders):
    """A workflow over the folders, on the backend ``local``."""
    with chiltepin.Workflow(folders.settings, run_dir=folders.folder / "runinfo") as workflow:
        yield workflow


@python_app
def total(inputs=(), outputs=()):
    """Add the numbers in all inputs; write the sum to the output, if any."""
    number = 0
    for file in inputs:
        with open(file) as lines:
            number += sum(int(line) for line in lines)
    for file in outputs:
        with open(file.filepath, "w") as out:
            out.write(f"{number}\n")
    return number, [file.filepath for file in inputs]


@bash_app
def double(inputs=(), outputs=()):
    """Write each line of the input twice."""
    return f"cat '{inputs[0]}' '{inputs[0]}' > '{outputs[0]}'"


COLLECTIONS = {"my-laptop": str(uuid.UUID(int=1)), "hpc-scratch": str(uuid.UUID(int=2))}


@pytest.mark.parametrize("backend", ["local", "filesystem", "globus"])
def test_files_of_parsls_staging_by_globus(request, tmp_path, backend):
    """Files with `globus://UUID/path` URLs work on every backend; files that apps see are not copied."""
    world = World(tmp_path, backend, {"provider": "threads", "max_threads": 2})
    for name, endpoint in world.settings["data"]["endpoints"].items():
        endpoint["globus"]["collection"] = COLLECTIONS[name]
    if backend == "globus":
        at_globus(world, request.getfixturevalue("chiltepin_globus"))
    laptop, scratch = (one["globus"]["collection"] for one in world.settings["data"]["endpoints"].values())
    world.put("tables/a%20b?.csv", "1\n2\n")
    (world.scratch / "there.csv").write_text("10\n")
    with chiltepin.Workflow(world.settings, run_dir=tmp_path / "runinfo"):
        summed = total(
            inputs=[File(f"globus://{laptop.upper()}/tables/a%20b?.csv"), File(f"globus://{scratch}/there.csv")],
            outputs=[File(f"globus://{laptop}/sum.txt")],
        )
        number, paths = summed.result(LIMIT)
        summed.outputs[0].result(LIMIT)
    assert number == 13
    assert Path(paths[1]) == world.scratch / "there.csv"
    assert (world.laptop / "sum.txt").read_text() == "13\n"
    assert world.staged() == ["in/my-laptop/tables/a%20b?.csv", "out/my-laptop/sum.txt"]


@python_task
def contents(inputs=()):
    """Return the contents of each file."""
    return [Path(file.filepath).read_text() for file in inputs]


@python_task
def text_of(file):
    """Return the contents of a file."""
    with open(file) as lines:
        return lines.read()


def laptop(path):
    """Return a file on the laptop."""
    return File(f"chiltepin://my-laptop/{path}")


def test_inputs_and_outputs_are_moved_by_the_backend(running, world):
    """Two inputs of one name get separate folders, and an output is at its endpoint when its future ends."""
    world.put("a/x.csv", "1\n2\n")
    world.put("b/x.csv", "3\n")
    app = total(inputs=[laptop("a/x.csv"), laptop("b/x.csv")], outputs=[laptop("new/folder/sum.csv")])
    file = app.outputs[0].result(LIMIT)
    assert file.url == "chiltepin://my-laptop/new/folder/sum.csv"
    assert (world.laptop / "new/folder/sum.csv").read_text() == "6\n"
    work = world.scratch / "work"
    assert app.result(LIMIT) == (6, [str(work / "in/my-laptop/a/x.csv"), str(work / "in/my-laptop/b/x.csv")])


def test_apps_are_chained_by_their_files(running, world):
    """An app that takes another app's output waits for it and reads it where it was written."""
    world.put("one two.csv", "4\n")
    first = double(inputs=[laptop("one two.csv")], outputs=[laptop("twice#1.csv")])
    second = total(inputs=[first.outputs[0]])
    assert second.result(LIMIT) == (8, [str(world.scratch / "work/out/my-laptop/twice#1.csv")])
    assert (world.laptop / "twice#1.csv").read_text() == "4\n4\n"
    assert world.staged() == ["in/my-laptop/one two.csv", "out/my-laptop/twice#1.csv"]


def test_a_file_that_is_missing_is_the_cause(running, world):
    """A missing input fails the app and its dependents, with TaskFailedError as the cause."""
    app = total(inputs=[laptop("none.csv")], outputs=[laptop("sum.csv")])
    after = total(inputs=[app.outputs[0]])
    for future in (app, app.outputs[0], after):
        with pytest.raises(DependencyError) as caught:
            future.result(LIMIT)
        assert isinstance(caught.value.__cause__, TaskFailedError)
        assert caught.value.__cause__.status.code == "FILE_NOT_FOUND"
    assert not (world.laptop / "sum.csv").exists()


def test_a_file_that_was_not_written_fails_its_own_future(running, world):
    """If an app does not write its output, the app succeeds and the future of the file raises TaskFailedError."""

    @python_app
    def nothing(outputs=()):
        return True

    app = nothing(outputs=[laptop("promised.csv")])
    assert app.result(LIMIT) is True
    with pytest.raises(TaskFailedError, match="FILE_NOT_FOUND"):
        app.outputs[0].result(LIMIT)


def test_the_file_of_a_transfer_is_an_input(running, world):
    """An app with `.file` as input waits for the transfer, and opens the file at a destination that it sees."""
    world.put("x.csv", "5\n")
    sent = transfer_task("my-laptop", "hpc-scratch", "/x.csv", "/project/x.csv", executor="local", polling_interval=0.1)
    assert sent.file is sent.file
    assert sent.file.file_obj.url == "chiltepin://hpc-scratch/project/x.csv"
    app = total(inputs=[sent.file], outputs=[File("chiltepin://hpc-scratch/project/new/sum.csv")])
    assert app.result(LIMIT) == (5, [str(world.scratch / "project/x.csv")])
    assert app.outputs[0].result(LIMIT)
    assert (world.scratch / "project/new/sum.csv").read_text() == "5\n"
    assert world.staged() == []


def test_no_worker_is_held_by_a_service(chiltepin_globus, tmp_path):
    """While Globus transfers a hundred files in a few tasks, the only worker is free."""
    world = World(tmp_path, "globus", {"provider": "threads", "max_threads": 1})
    at_globus(world, chiltepin_globus)
    for number in range(100):
        world.put(f"{number}.csv", "1\n")
    chiltepin_globus.settings.task_latency, chiltepin_globus.settings.request_rate = 1e6, None
    transfers = []
    with chiltepin.Workflow(world.settings, run_dir=tmp_path / "runinfo") as workflow:
        shutdown_of(workflow.dfk).watcher = transfers.append
        app = total(inputs=[laptop(f"{number}.csv") for number in range(100)])
        assert len(transfers) == 100
        while any(transfer.task_handle is None for transfer in transfers):
            assert total().result(LIMIT) == (0, [])
        assert len(chiltepin_globus.tasks) < 10
        for task in chiltepin_globus.tasks.values():
            task.fail()
        with pytest.raises(DependencyError) as caught:
            app.result(LIMIT)
        assert isinstance(caught.value.__cause__, TaskFailedError)


def test_a_file_is_moved_once(offline, folders):
    """Apps that read the same file share one transfer; a failed transfer is repeated."""
    folders.put("x.csv", "1\n")
    apps = [total(inputs=[laptop("x.csv")]) for _ in range(3)]
    assert [app.result(LIMIT)[0] for app in apps] == [1, 1, 1]
    (folders.laptop / "x.csv").unlink()
    assert total(inputs=[laptop("x.csv")]).result(LIMIT)[0] == 1
    assert isinstance(total(inputs=[laptop("late.csv")]).exception(LIMIT), DependencyError)
    folders.put("late.csv", "2\n")
    assert total(inputs=[laptop("late.csv")]).result(LIMIT)[0] == 2


def test_a_file_that_is_written_again_is_another_one(offline, folders):
    """After a transfer overwrites a file, it is staged again beside the copy that other apps still read."""
    folders.put("x.csv", "1\n")
    folders.put("new.csv", "2\n")
    old = total(inputs=[laptop("x.csv")])
    old.result(LIMIT)
    sent = transfer_task("my-laptop", "my-laptop", "/new.csv", "/x.csv", executor="local")
    new = [total(inputs=[sent.file]) for _ in range(2)]
    assert [app.result(LIMIT)[0] for app in new] == [2, 2]
    assert folders.staged() == ["in-2/my-laptop/x.csv", "in/my-laptop/x.csv"]
    assert total(inputs=[laptop("x.csv")]).result(LIMIT)[0] == 1


def test_a_transfer_waits_for_files_without_moving_them(offline, folders):
    """A transfer waits for a file in its inputs without staging it."""
    folders.put("x.csv", "1\n")
    made = double(inputs=[laptop("x.csv")], outputs=[laptop("made.csv")])
    sent = transfer_task("my-laptop", "hpc-scratch", "/made.csv", "/final.csv", executor="local", inputs=made.outputs)
    gone = delete_task("my-laptop", "/made.csv", executor="local", inputs=[sent.file, laptop("other.csv")])
    assert gone.result(LIMIT) is True
    assert (folders.scratch / "final.csv").read_text() == "1\n1\n"
    assert folders.staged() == ["in/my-laptop/x.csv", "out/my-laptop/made.csv"]


def test_a_file_may_be_any_argument(offline, folders):
    """A Chiltepin task also accepts a file by position, without declaring `inputs`."""
    folders.put("data/x.csv", "1\n")
    assert text_of(laptop("data/x.csv"), executor="local").result(LIMIT) == "1\n"
    there = File("chiltepin://hpc-scratch/work/in/my-laptop/data/x.csv")
    assert text_of(there, executor="local").result(LIMIT) == "1\n"


# Parsl does not close the file to which a command prints.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_output_of_a_command_is_moved(offline, folders):
    """The output of a command can be a file on an endpoint."""

    @bash_app
    def say(stdout=None):
        return "echo hello"

    said = say(stdout=laptop("logs/said.txt"))
    assert said.stdout.result(LIMIT)
    assert (folders.laptop / "logs/said.txt").read_text() == "hello\n"


def test_a_join_task_stages_for_the_tasks_that_it_calls(offline, folders):
    """Files are staged for the tasks that a join task starts."""
    folders.put("x.csv", "7\n")

    @join_task
    def both():
        return [total(inputs=[laptop("x.csv")]), total()]

    assert [number for number, _ in both().result(LIMIT)] == [7, 0]


def test_a_transfer_that_fails_without_check_has_no_file(offline):
    """`.file` fails even if the transfer returns False; a request without a single destination file has none."""
    sent = transfer_task("my-laptop", "hpc-scratch", "/none", "/x", executor="local", check=False)
    with pytest.raises(TaskFailedError, match="chiltepin://hpc-scratch/x does not exist"):
        sent.file.result(LIMIT)
    assert isinstance(total(inputs=[sent.file]).exception(LIMIT), DependencyError)
    many = transfer_task("my-laptop", "hpc-scratch", "/", "/all", executor="local", recursive=True)
    gone = delete_task("my-laptop", "/none", executor="local", ignore_missing=True)
    for future in (many, gone):
        with pytest.raises(ValueError, match="does not create a single file"):
            _ = future.file
    later = transfer_task("my-laptop", "hpc-scratch", "/a", many, executor="local", check=False)
    with pytest.raises(ValueError, match="still a future"):
        _ = later.file


def test_a_resource_without_a_folder_says_what_to_write(tmp_path):
    """If the settings name no folder for staged files, the call fails and says what to add."""
    settings = {"data": {"backend": "local", "root": str(tmp_path), "endpoints": {"my-laptop": None}}}
    with (
        chiltepin.Workflow(settings, run_dir=tmp_path / "runinfo"),
        pytest.raises(ConfigError, match=r"'local' has no folder.*add 'working_dir: ENDPOINT:/path'"),
    ):
        total(inputs=[laptop("x.csv")])


def test_parsl_keeps_its_own_files(offline, folders):
    """Plain paths and Parsl's other staging providers still work, and use the same folder."""
    (folders.folder / "plain.csv").write_text("9\n")
    assert total(inputs=[File(str(folders.folder / "plain.csv"))]).result(LIMIT)[0] == 9
    executor = configure.load(folders.settings).executors[0]
    assert executor.working_dir == str(folders.scratch / "work")
    assert len(executor.storage_access) == 5


@pytest.mark.parametrize(
    "bad", ["chiltepin://my-laptop", "chiltepin://my-laptop/", "chiltepin:///x", "chiltepin://my-laptop/folder/"]
)
def test_a_url_that_names_no_file_is_refused(bad):
    """A URL that does not name a file is refused."""
    with pytest.raises(ValueError, match="is not a file of an endpoint"):
        location_of(File(bad))


@pytest.mark.parametrize(
    ("endpoint", "path", "meant"),
    [
        ("hpc-scratch", "/a/x.csv", "/a/x.csv"),
        ("HPC Scratch Space", "/100% sure?#1;2.csv", "/100% sure?#1;2.csv"),
        ("Ümläut/é", "~/x", "~/x"),
        ("hpc-scratch", "rel/x", "~/rel/x"),
    ],
)
def test_a_url_holds_any_name(endpoint, path, meant):
    """A URL preserves any name of an endpoint and a file."""
    assert location_of(File(url_of(endpoint, path))) == (endpoint, meant)


#: Names that a disk allows, and paths that users may write.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0") | st.sampled_from("%~. "), min_size=1
)
ENDPOINTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from("%/2F."), min_size=1
)
REAL_NAMES = NAMES.filter(lambda name: name not in (".", ".."))
PATHS = st.builds(
    lambda top, names: top + "/".join(names),
    st.sampled_from(["", "/", "~/", "//", "/~/", "~", "/~"]),
    st.lists(REAL_NAMES, min_size=1, max_size=3),
)


@given(ENDPOINTS, PATHS, st.sampled_from(["chiltepin", "CHILTEPIN", "Chiltepin"]))
@example("e", "~x", "chiltepin")
@example("e", "/~/x", "chiltepin")
@example("e", os.fsdecode(b"/caf\xe9"), "chiltepin")
@example(str(uuid.uuid4()).upper(), "/x", "CHILTEPIN")
def test_a_url_means_the_file_that_it_was_made_of(endpoint, path, scheme):
    """The URL of any endpoint and path refers to the same file, even with an uppercase scheme."""
    file = File(scheme + url_of(endpoint, path).removeprefix("chiltepin"))
    name, found = location_of(file)
    assert (file.scheme, name) == ("chiltepin", endpoint_name(endpoint))
    for home in ("/", "/users/me"):
        assert paths.parts(found, home=home, endpoint="e") == paths.parts(path, home=home, endpoint="e")


def places(files):
    """Return the paths of the staged copies, in the order of the requests."""
    found = staging._StagedPaths()
    return [found.find("in", ("w:/work", endpoint, tuple(names)), object()) for endpoint, names in files]


@given(st.lists(st.tuples(ENDPOINTS, st.lists(REAL_NAMES, min_size=1, max_size=3)), max_size=8))
@example([("a/b", ["x"]), ("a%2Fb", ["x"]), ("a%252Fb", ["x"])])
@example([("a", ["x"]), ("A", ["X"]), ("\u00e4", ["x"]), ("a\u0308", ["x"])])
@example([("a", ["x"]), ("a", ["x", "y"]), ("a", ["x "]), ("..", ["x"]), (".", ["x"])])
@example([("%" * 200, ["x"]), ("%" * 201, ["x"]), ("a", ["x" * 256 + ".grib2"]), ("a", ["x" * 257 + ".grib2"])])
@example([("2", ["x"]), ("in-2", ["x"]), ("in", ["2", "x"])])
def test_no_two_copies_are_in_one_place(files):
    """Staged copies have distinct paths, none below another, even on a case-insensitive file system."""
    found = [tuple(map(paths.folded, place.split("/"))) for place in places(files)]
    assert len(set(found)) == len(found)
    assert not any(one[: len(other)] == other for one in found for other in found if one != other)
    for place in places(files):
        assert all(name not in ("", ".", "..") and len(name.encode()) <= 255 for name in place.split("/"))


def test_files_of_endpoints_with_similar_names_are_two(tmp_path):
    """An app that reads one path on the endpoints `a/b`, `a%2Fb` and `A/b` reads three different files."""
    endpoints = {"w": {"filesystem": str(tmp_path / "w")}}
    for number, name in enumerate(["a/b", "a%2Fb", "A/b"]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "x").write_text(f"{number}\n")
        endpoints[name] = {"local": str(number), "filesystem": str(tmp_path / str(number))}
    (tmp_path / "w").mkdir()
    config = {
        "local": {"provider": "threads", "working_dir": "w:/work"},
        "data": {"backend": "filesystem", "journal": False, "endpoints": endpoints},
    }
    files = [File(url_of(name, "/x")) for name in ("a/b", "a%2Fb", "A/b")]
    with chiltepin.Workflow(config, run_dir=tmp_path / "runinfo"):
        assert contents(inputs=files, executor="local").result(LIMIT) == ["0\n", "1\n", "2\n"]


def test_a_file_is_one_however_its_path_is_spelled(offline, folders):
    """URLs that spell the same path or scheme differently share one staged copy."""
    folders.put("x", "1\n")
    urls = ["chiltepin://my-laptop/x", "CHILTEPIN://my-laptop/./y/../x", "chiltepin://my-laptop//x"]
    assert total(inputs=[File(url) for url in urls]).result(LIMIT)[0] == 3
    assert folders.staged() == ["in/my-laptop/x"]


@pytest.mark.parametrize("backend", ["local", "filesystem", "globus"])
def test_files_reach_worker_processes(request, tmp_path, backend):
    """Worker processes read staged files and create output folders; outputs arrive, and errors are Chiltepin's."""
    resource = {"provider": "localhost", "max_workers_per_node": 2, "cores_per_worker": 0.1, "init_blocks": 1}
    world = World(tmp_path, backend, {**resource, "environment": [f"export PYTHONPATH={HERE}:$PYTHONPATH"]})
    if backend == "globus":
        at_globus(world, request.getfixturevalue("chiltepin_globus"))
    world.put("a/x.csv", "1\n2\n")
    world.put("b/x.csv", "4\n")
    with chiltepin.Workflow(world.settings, run_dir=tmp_path / "runinfo"):
        first = total(inputs=[laptop("a/x.csv"), laptop("b/x.csv")], outputs=[laptop("made/sum.csv")])
        second = double(inputs=[first.outputs[0]], outputs=[laptop("made/twice.csv")])
        failed = total(inputs=[laptop("none.csv")])
        again = total(inputs=[laptop("a/x.csv")])
        sent = transfer_task("my-laptop", "hpc-scratch", "/b/x.csv", "/project/x.csv", executor="local")
        there = total(inputs=[sent.file], outputs=[File("chiltepin://hpc-scratch/project/sum.csv")])
        assert second.outputs[0].result(LIMIT)
        assert again.result(LIMIT)[0] == 3
        assert there.result(LIMIT) == (4, [str(world.scratch / "project/x.csv")])
        assert there.outputs[0].result(LIMIT)
        with pytest.raises(DependencyError) as caught:
            failed.result(LIMIT)
    assert isinstance(caught.value.__cause__, TaskFailedError)
    assert caught.value.__cause__.status.code == "FILE_NOT_FOUND"
    assert (world.laptop / "made/twice.csv").read_text() == "7\n7\n"
    staged = ["in/my-laptop/a/x.csv", "in/my-laptop/b/x.csv", "out/my-laptop/made/sum.csv"]
    assert world.staged() == [*staged, "out/my-laptop/made/twice.csv"]
