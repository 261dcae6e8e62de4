"""Real web servers on ports of the loopback, each serving a folder: nginx, Apache, lighttpd and Tomcat."""

from __future__ import annotations

import getpass
import os
import random
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

NGINX = """
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; autoindex_format {style}; }}
}}
"""

APACHE = """
ServerRoot {folder}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/log
DefaultRuntimeDir {folder}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule autoindex_module {modules}/mod_autoindex.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule headers_module {modules}/mod_headers.so
Header set Content-Encoding gzip "expr=%{{REQUEST_METHOD}} == 'GET' && %{{REQUEST_URI}} =~ /gz$/"
LoadModule dav_module {modules}/mod_dav.so
LoadModule dav_fs_module {modules}/mod_dav_fs.so
{user}
DocumentRoot {root}
DavLockDB {folder}/locks
<Directory {root}>
    Require all granted
    DirectoryIndex disabled
    Options Indexes
    {style}
</Directory>
"""

LIGHTTPD = """
server.document-root = "{root}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{folder}/log"
server.modules = ("mod_dirlisting")
dir-listing.activate = "enable"
# Of a file without a type it tells neither a time nor a tag.
# A file that is looked at again is to be seen as it is, and nothing is below a file.
server.stat-cache-engine = "disable"
static-file.disable-pathinfo = "enable"
mimetype.assign = ("" => "application/octet-stream")
# Without these it refuses names that are not UTF-8, and those with control characters.
server.http-parseopts = ("url-invalid-utf8-reject" => "disable", "url-ctrls-reject" => "disable")
"""

TOMCAT = """
<Server port="-1">
  <Service name="Catalina">
    <Connector port="{port}" address="127.0.0.1"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="none" workDir="{folder}/work" autoDeploy="false">
        <Context path="" docBase="{root}" defaultWebXml="{folder}/settings.web" reloadable="false">
          <Resources cachingAllowed="false"/>
          <JarScanner scanClassPath="false"/>
        </Context>
      </Host>
    </Engine>
  </Service>
</Server>
"""

TOMCAT_WEB = """
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
    <init-param><param-name>listings</param-name><param-value>true</param-value></init-param>
  </servlet>
  <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
</web-app>
"""

MODULES = "/usr/lib/apache2/modules"
CATALINA = "/usr/share/tomcat10"

#: Each kind of server: its program, arguments and settings, and the style of its index pages.
KINDS = {
    "nginx": ("nginx", ["-p", "{folder}", "-c", "{settings}", "-g", "daemon off;"], NGINX, "html"),
    "nginx-json": ("nginx", ["-p", "{folder}", "-c", "{settings}", "-g", "daemon off;"], NGINX, "json"),
    "apache": ("apache2", ["-DFOREGROUND", "-f", "{settings}"], APACHE, ""),
    "apache-fancy": ("apache2", ["-DFOREGROUND", "-f", "{settings}"], APACHE, "IndexOptions FancyIndexing HTMLTable"),
    "apache-untagged": ("apache2", ["-DFOREGROUND", "-f", "{settings}"], APACHE, "FileETag None"),
    "apache-dav": ("apache2", ["-DFOREGROUND", "-f", "{settings}"], APACHE, "Dav On"),
    "lighttpd": ("lighttpd", ["-D", "-f", "{settings}"], LIGHTTPD, ""),
    "tomcat": (
        "java",
        [
            *("-cp", f"{CATALINA}/bin/bootstrap.jar:{CATALINA}/bin/tomcat-juli.jar"),
            *(f"-Dcatalina.home={CATALINA}", "-Dcatalina.base={folder}", "-Djava.io.tmpdir={folder}"),
            *("org.apache.catalina.startup.Bootstrap", "-config", "{settings}", "start"),
        ],
        TOMCAT,
        "",
    ),
}


def free_port() -> int:
    """Return a free port outside the range that the kernel assigns."""
    # The kernel may assign a port of its range to another process at once.
    while True:
        port = random.randrange(10_000, 32_000)  # noqa: S311 - not a secret
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


def answers(port: int) -> bool:
    """Return whether a server listens on a port of the loopback."""
    with socket.socket() as asking:
        asking.settimeout(1)
        return asking.connect_ex(("127.0.0.1", port)) == 0


def user_of(kind: str) -> str:
    """Return the line of the settings that names the user of a server that root starts."""
    if os.geteuid():
        return ""
    # Apache does not serve as root, and nginx would serve as the user nobody.
    return "User www-data\nGroup www-data" if kind.startswith("apache") else f"user {getpass.getuser()};"


@contextmanager
def web_server(kind: str) -> Iterator[tuple[str, Path]]:
    """Start a server; yield its URL and the empty folder that it serves. Skip the test without that server."""
    program, words, settings, style = KINDS[kind]
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    needed = {"apache2": MODULES, "java": CATALINA}.get(program, "/")
    if found is None or not os.path.isdir(needed):
        package = "tomcat10" if program == "java" else program
        pytest.skip(f"There is no {package} here; install the package of that name.")
    # Not in pytest's folder, which a server that does not run as root cannot read.
    with tempfile.TemporaryDirectory() as top:
        folder, root, port = Path(top), Path(top, "served"), free_port()
        root.mkdir()
        for place in (folder, root):
            place.chmod(0o777)
        told = {"folder": folder, "root": root, "port": port, "style": style, "modules": MODULES}
        (folder / "settings").write_text(settings.format(**told, user=user_of(kind)))
        (folder / "settings.web").write_text(TOMCAT_WEB)
        command = [found, *(word.format(folder=folder, settings=folder / "settings") for word in words)]
        with (folder / "said").open("w") as said:
            # Java reads and writes names in the encoding of the locale.
            started = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "LC_ALL": "C.UTF-8"})
        try:
            until(lambda: answers(port) or started.poll() is not None)
            assert started.poll() is None, "".join(
                log.read_text() for log in (folder / "said", folder / "log") if log.exists()
            )
            yield f"http://127.0.0.1:{port}", root
        finally:
            started.terminate()
            started.wait(60)


#: Characters and bytes that are special in a URL, a page, a shell, a pattern or an encoding.
ODD = [bytes([byte]) for byte in b"a%#?&=+ ;:@!$*,'\"()[]<>\\^`{}|~-_."] + [
    "é".encode(),
    b"\xe9",
    b"\xff",
    "日".encode(),
]
ODD += [b"%20", b"%2F", b"..", b"&amp;", b"e\xcc\x81"]
#: Characters that end a line of a listing, are invisible, or end a name early.
ODD += [b"\n", b"\r", b"\t", b"\x01", b"\x7f", b"&lt", b"::", b"%00", b" -> ", b"\xc2\x85", b"\xe2\x80\xa8"]


def odd_name(chance: random.Random) -> bytes:
    """Return a valid file name with characters that cause trouble for servers."""
    name = b"".join(chance.choice(ODD) for _ in range(chance.choice([1, 2, 3, 5, 40]))).lstrip(b".")
    return name or b"x"


def odd_tree(chance: random.Random, root: Path, names: int = 12) -> dict[bytes, bytes]:
    """Write a tree with odd names; return the path of each file below the root, and its content."""
    folders, written = [b""], {}
    for number in range(names):
        place = os.path.join(chance.choice(folders), odd_name(chance))
        whole = os.path.join(os.fsencode(root), place)
        if os.path.lexists(whole):
            continue
        if chance.random() < 0.3:
            os.mkdir(whole)
            os.chmod(whole, 0o777)  # noqa: S103 - a server that runs as another user may write there
            folders.append(place)
            continue
        content = written[place] = b"%d" % number * chance.choice([0, 1, 1000])
        with open(whole, "wb") as file:
            file.write(content)
    return written


def files_of(root: Path | str) -> dict[bytes, bytes]:
    """Return the path of each file below a folder, and its content."""
    found = {}
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                found[os.path.relpath(os.path.join(folder, name), os.fsencode(root))] = file.read()
    return found
