"""A kernel image of another architecture, from the Debian archive that this system uses.

apt does the transport and checks signatures, with lists, cache and sources of its own in a
temporary directory: the system's package lists, architectures and sources stay as they are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ig_py.errors import BuildError, IgPyError
from ig_py.host.scratch import scratch_dir
from ig_py.toolchain.kernel_btf import MAX_IMAGE
from ig_py.toolchain.process import clean_environment, run

ARCHITECTURES = ("amd64", "arm64")
DEFAULT_ARCHIVE = "http://deb.debian.org/debian/"
DEFAULT_SUITE = "trixie"
"""Asked when apt's configuration names no Debian archive."""

_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
)
_METAPACKAGE = "linux-image-cloud-{arch}"
_DEPENDS = re.compile(r"^Depends:.*?\b(linux-image-[0-9][^\s,(]*)", re.MULTILINE)
_VERSION = re.compile(r"linux-image-([0-9]+)\.([0-9]+)")
_KERNEL_FILE = re.compile(r"(?:\./)?boot/vmlinuz-[^/]+\Z")
_REMEDY = (
    "give the types of a kernel of that architecture with "
    "`python -m ig_py.toolchain.vmlinux --arch {arch} --vmlinux-btf FILE`"
)


def kernel_image(arch: str, log: Callable[[str], None]) -> tuple[bytes, str]:
    """The newest cloud kernel for *arch* (``amd64``, ``arm64``): (its image, package name).

    Raises:
        BuildError: There is no apt, no network or no such package.
    """
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise BuildError(
                f"fetching a kernel for {arch}: {tool} is not installed",
                remedy=_REMEDY.format(arch=arch),
            )
    with scratch_dir() as directory:
        apt = _PrivateApt(directory, arch)
        try:
            apt.update()
            package = apt.newest_kernel()
            log(f"Fetching {package} for the types of {arch} kernels")
            archive = apt.download(package)
        except IgPyError as e:
            raise BuildError(
                f"fetching a kernel for {arch}: {e.message}",
                remedy=_REMEDY.format(arch=arch),
                detail=e.detail,
            ) from None
        return _kernel_of(archive), package


class _PrivateApt:
    def __init__(self, root: Path, arch: str) -> None:
        self.root = root
        self.arch = arch
        for name in ("lists/partial", "cache/archives/partial"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        (root / "sources.list").write_text("".join(self._sources()))
        root.chmod(0o755)  # apt drops its privileges for downloads
        settings = {
            "Dir::State": root,
            "Dir::State::lists": root / "lists",
            "Dir::State::status": root / "status",
            "Dir::Cache": root / "cache",
            "Dir::Etc::sourcelist": root / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Update::Error-Mode": "any",
            "APT::Default-Release": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
        }
        self.options = [part for k, v in settings.items() for part in ("-o", f"{k}={v}")]

    def _sources(self) -> Iterator[str]:
        keyring = next((k for k in _KEYRINGS if k.is_file()), None)
        signed = f" signed-by={keyring}" if keyring else ""
        for uri, suite in _suites():
            yield f"deb [arch={self.arch}{signed}] {uri} {suite} main\n"

    def update(self) -> None:
        run(["apt-get", *self.options, "update", "-q"], "updating private package lists")

    def newest_kernel(self) -> str:
        name = _METAPACKAGE.format(arch=self.arch)
        text = run(["apt-cache", *self.options, "show", name], f"looking for {name}")
        found = _DEPENDS.findall(text)
        if not found:
            raise BuildError(f"the package {name} names no kernel")
        return str(max(found, key=_version_key))

    def download(self, package: str) -> Path:
        run(
            ["apt-get", *self.options, "download", "-q", package],
            f"downloading {package}",
            cwd=self.root,
        )
        archives = list(self.root.glob("*.deb"))
        if len(archives) != 1:
            raise BuildError(f"downloading {package}: apt left {len(archives)} archives")
        return archives[0]


def _suites() -> Iterator[tuple[str, str]]:
    """The Debian archives of the system, with the backports of each: (uri, suite)."""
    output = run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN) $(REPO_URI) $(CODENAME)",
            "Created-By: Packages",
        ],
        "reading apt's sources",
    )
    found: dict[tuple[str, str], None] = {}
    for line in output.splitlines():
        origin, _, rest = line.partition(" ")
        uri, _, codename = rest.rpartition(" ")
        if origin == "Debian" and uri and codename.isalpha():
            found[(uri, codename)] = None
    for uri, codename in found or {(DEFAULT_ARCHIVE, DEFAULT_SUITE): None}:
        yield uri, codename
        if codename != "sid":
            yield uri, f"{codename}-backports"


def _version_key(package: str) -> tuple[int, int, str]:
    match = _VERSION.match(package)
    return (int(match.group(1)), int(match.group(2)), package) if match else (0, 0, package)


def _kernel_of(archive: Path) -> bytes:
    process = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(archive)],
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            for member in tar:
                if not (member.isreg() and _KERNEL_FILE.match(member.name)):
                    continue
                file = tar.extractfile(member)
                if file is not None and member.size <= MAX_IMAGE:
                    return file.read()
    except (tarfile.TarError, OSError) as e:
        raise BuildError(f"unpacking {archive.name}: {e}") from None
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    raise BuildError(f"unpacking {archive.name}: there is no kernel image in it")
