"""One pipeline with filters, skipped sources, a deadline, globs and Parsl files works alike on every backend."""

from __future__ import annotations

import pytest
from buckets import KEYS, Moto
from parsl.data_provider.files import File

import chiltepin
from chiltepin.testing.simulator import Simulator

LIMIT = 60

FILES = ("1.nc", "2.nc", "3.txt", "logs/4.nc", "logs/deep/5.nc", "keep/6.nc", "keep/tmp.1/7.nc", "keep/8.log")

#: The files that the pipeline leaves at the destination.
LEFT = {"all/2.nc", "all/keep/6.nc", "copied/2.nc", "copied/keep/6.nc", "single.nc", "joined.out"}


@chiltepin.python_task
def join_files(inputs=(), outputs=()):
    """Write the contents of all inputs to the output, one per line."""
    texts = []
    for file in inputs:
        with open(file) as stream:
            texts.append(stream.read())
    with open(outputs[0], "w") as stream:
        stream.write("\n".join(texts))


class Folders:
    """Two endpoints in local folders, and a third one that apps see."""

    def __init__(self, folder, **data):
        self.folder = folder
        self.data = {"journal": False, "root": str(folder), **data}

    def put(self, name):
        """Write a file at the source."""
        file = self.folder / "source" / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)

    def left(self):
        """The files at the destination, with their contents."""
        top = self.folder / "goal"
        return {file.relative_to(top).as_posix(): file.read_text() for file in top.rglob("*") if file.is_file()}


class Objects:
    """Two endpoints in one bucket, and one in a folder that apps see."""

    def __init__(self, bucket, desk):
        self._bucket = bucket
        options = {"key": {"env": "PIPELINE_KEY"}, "secret": {"env": "PIPELINE_SECRET"}, "region": KEYS["region"]}
        places = {name: bucket.settings(name)["url"] for name in ("source", "goal")}
        endpoints = {
            name: {"filesystem": {"url": url, "options": {**options, "endpoint_url": bucket.url}}}
            for name, url in places.items()
        }
        endpoints["desk"] = {"filesystem": str(desk)}
        self.data = {"journal": False, "backend": "filesystem", "endpoints": endpoints}

    def put(self, name):
        """Write an object at the source."""
        self._bucket.put(f"source/data/{name}", name.encode())

    def left(self):
        """The objects at the destination, with their contents."""
        keys = {key for key in self._bucket.keys("goal/") if not key.endswith("/")}
        return {key.removeprefix("goal/"): self._bucket.get(key).decode() for key in keys}


@pytest.fixture(params=["local", "filesystem", "s3", "globus"])
def world(request, tmp_path, monkeypatch):
    """Endpoints on each backend in turn: ``source`` and ``goal``, and ``desk``, which apps see."""
    monkeypatch.delenv("CHILTEPIN_BACKEND", raising=False)
    names = ("source", "goal", "desk")
    (tmp_path / "desk").mkdir()
    if request.param == "local":
        yield Folders(tmp_path, backend="local", endpoints=dict.fromkeys(names))
    elif request.param == "filesystem":
        places = {name: {"filesystem": f"file://{tmp_path / name}"} for name in names}
        for name in names:
            (tmp_path / name).mkdir(exist_ok=True)
        yield Folders(tmp_path, backend="filesystem", endpoints=places)
    elif request.param == "s3":
        monkeypatch.setenv("PIPELINE_KEY", KEYS["key"])
        monkeypatch.setenv("PIPELINE_SECRET", KEYS["secret"])
        server = Moto()
        yield Objects(server.bucket(), tmp_path / "desk")
        server.stop()
    else:
        with Simulator({name: tmp_path / name for name in names}) as simulator:
            for name, value in simulator.environment().items():
                monkeypatch.setenv(name, value)
            places = {
                name: {"globus": {"collection": simulator.collection(name).id, "mount": str(tmp_path / name)}}
                for name in names
            }
            yield Folders(tmp_path, backend="globus", endpoints=places)


def test_a_pipeline_leaves_the_same_files_everywhere(world, tmp_path):
    """A filtered tree, its copy, a skipped file, deletions by glob and an app's files give the same result."""
    for name in FILES:
        world.put(name)
    settings = {"local": {"provider": "threads", "working_dir": "desk:/work"}, "data": world.data}
    with chiltepin.Workflow(settings, run_dir=tmp_path / "runs"):
        rules = [("exclude", "1.nc"), ("include", "*.nc"), ("exclude", "*"), ("exclude", "logs", "dir")]
        tree = chiltepin.transfer_task(
            "source", "goal", "/data", "/all", recursive=True, executor="local", filters=rules, deadline="2040-01-01"
        )
        copy = chiltepin.transfer_task(
            "goal", "goal", "/all", "/copied", recursive=True, executor="local", inputs=[tree]
        )
        single = chiltepin.transfer_task("source", "goal", "/data/1.nc", "/single.nc", executor="local")
        missing = chiltepin.transfer_task(
            "source", "goal", "/data/none.nc", "/none.nc", executor="local", skip_source_errors=True
        )
        deletions = [
            chiltepin.delete_task(
                "goal", f"/{top}/keep/tmp.*", recursive=True, globs=True, executor="local", inputs=[copy]
            )
            for top in ("all", "copied")
        ]
        assert all(future.result(LIMIT) is True for future in (tree, copy, single, missing, *deletions))
        assert missing.status().skipped_paths == ("/data/none.nc",)
        joined = join_files(
            inputs=[File("chiltepin://source/data/3.txt"), File("chiltepin://goal/all/2.nc")],
            outputs=[File("chiltepin://goal/joined.out")],
            executor="local",
        )
        assert joined.outputs[0].result(LIMIT).url == "chiltepin://goal/joined.out"
        nothing = chiltepin.delete_task("goal", "/*.txt", globs=True, executor="local", check=False)
        assert nothing.result(LIMIT) is False
    left = world.left()
    assert set(left) == LEFT
    assert left.pop("joined.out") == "3.txt\n2.nc"
    assert all(name.endswith(content) or name == "single.nc" for name, content in left.items())
