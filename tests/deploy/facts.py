"""What the rest of the repository says, and deploy/ has to agree with."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True)
class Facts:
    root: Path
    convoke: Path
    version: str
    rust_version: tuple
    # Name in `exit.rs` to code.
    exit_codes: dict
    # Seconds that one request may take, unless configured otherwise.
    request_timeout: float
    # Names of the files that the manual tells to put into the Secret.
    documented_secrets: frozenset

    @staticmethod
    def of(root, convoke):
        cargo = (root / "Cargo.toml").read_text()
        defaults = yaml.safe_load((root / "crates/config/config/convoke.default.yaml").read_text())
        manual = (root / "deploy/README.md").read_text()
        return Facts(
            root=root,
            convoke=convoke,
            version=re.search(r'^version = "([^"]+)"', cargo, re.M)[1],
            rust_version=version_of(re.search(r'^rust-version = "([^"]+)"', cargo, re.M)[1]),
            exit_codes=exit_codes((root / "crates/convoke/src/exit.rs").read_text()),
            request_timeout=seconds(defaults["connections"]["<name>"]["gtm"]["http"]["request_timeout"]),
            documented_secrets=frozenset(re.findall(r"--from-file=([\w.-]+)", manual)),
        )


def exit_codes(source):
    codes = {name: int(code) for name, code in re.findall(r"Self::(\w+) => (\d+),", source)}
    if codes.get("Success") != 0 or len(codes) < 5:
        raise SystemExit("exit.rs no longer lists the codes as `Self::Name => number,`; adapt tests/deploy/facts.py")
    return codes


def version_of(text):
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def seconds(text):
    """A duration of the configuration, `75s`."""
    number, unit = re.fullmatch(r"(\d+)\s*(ms|s|m|h|d)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def size(text):
    """A size of the configuration or a quantity of Kubernetes in bytes: `512MB`, `2Gi`, `512m` of compose."""
    number, unit = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", str(text)).groups()
    return int(number) * SIZE_UNITS[unit]


SIZE_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "k": 2**10, "m": 2**20, "g": 2**30,
}
