"""Every setting by flag or environment, validated all at once, with one message for each (contract §9)."""

from __future__ import annotations

import argparse
import os
import re
import socket
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from controller.reconcilers.settings import Tuning
from controller.wire.dial import Tls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_REMOTE: Final = re.compile(r"unix:.+|(tcp|ssl):\[?[^\]]+\]?:\d{1,5}")
_MODES: Final = ("manage", "observe")
_LEVELS: Final = ("debug", "info", "warning", "error")


class Invalid(Exception):
    """One line per setting that is wrong."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the process was told."""

    nb: tuple[str, ...]
    nb_key: Path
    nb_certificate: Path
    nb_ca: Path
    kubeconfig: Path | None
    http_host: str
    http_port: int
    log_level: str
    tuning: Tuning

    @property
    def tls(self) -> Tls | None:
        """The files of ssl: remotes, if there are any."""
        wanted = any(remote.startswith("ssl:") for remote in self.nb)
        return Tls(self.nb_key, self.nb_certificate, self.nb_ca) if wanted else None


class _Option(NamedTuple):
    flag: str
    default: str
    help: str
    check: Callable[[str], object]
    also: str = ""  # the name that Kube-OVN's installer has for it in the environment

    @property
    def variable(self) -> str:
        return "KEEPIP_" + self.flag.upper().replace("-", "_")

    def told(self, environment: Mapping[str, str]) -> str:
        """Our own variable, else Kube-OVN's, else the default."""
        return environment.get(self.variable, environment.get(self.also, self.default))


def _number(low: float, high: float) -> Callable[[str], float]:
    def check(text: str) -> float:
        value = float(text.removesuffix("s"))
        if not low <= value <= high:
            msg = f"must be between {low:g} and {high:g}"
            raise ValueError(msg)
        return value

    return check


def _whole(low: int, high: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            msg = f"must be a whole number between {low} and {high}"
            raise ValueError(msg)
        return value

    return check


def _truth(text: str) -> bool:
    if text.lower() in {"true", "yes", "on", "1"}:
        return True
    if text.lower() in {"false", "no", "off", "0"}:
        return False
    msg = "must be true or false"
    raise ValueError(msg)


def _remotes(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found or not all(_REMOTE.fullmatch(part) for part in found):
        msg = "must be one or more of unix:PATH, tcp:HOST:PORT, ssl:HOST:PORT, with commas between them"
        raise ValueError(msg)
    return found


def _file(text: str) -> Path | None:
    if not text:
        return None
    if not Path(text).is_file():
        msg = "there is no such file"
        raise ValueError(msg)
    return Path(text)


def _path(text: str) -> Path:
    return Path(_text(text))


def _level(text: str) -> str:
    if text not in _LEVELS:
        msg = f"must be one of {', '.join(_LEVELS)}"
        raise ValueError(msg)
    return text


def _mode(text: str) -> str:
    if text not in _MODES:
        msg = f"must be {' or '.join(_MODES)}"
        raise ValueError(msg)
    return text


def _text(text: str) -> str:
    if not text:
        msg = "must not be empty"
        raise ValueError(msg)
    return text


def _lease(text: str) -> str:
    if text and not all(text.partition("/")):
        msg = "must be namespace/name, or empty"
        raise ValueError(msg)
    return text


_T = Tuning()
OPTIONS: Final = (
    _Option("mode", _T.mode, "manage, or observe: report what disagrees and write nothing anywhere", _mode),
    _Option("nb", "unix:/run/ovn/ovnnb_db.sock", "OVN Northbound, one or more remotes with commas", _remotes),
    _Option("nb-key", "/var/run/tls/key", "our private key, for ssl: remotes", _path),
    _Option("nb-certificate", "/var/run/tls/cert", "our certificate, for ssl: remotes", _path),
    _Option("nb-ca", "/var/run/tls/cacert", "who may have signed the certificates of ssl: remotes", _path),
    _Option("kubeconfig", "", "kubeconfig file; empty: in-cluster, else KUBECONFIG", _file),
    _Option("http-host", "0.0.0.0", "address of /metrics, /livez and /readyz", _text),  # noqa: S104 - probes come from the node
    _Option("http-port", "8080", "port of /metrics, /livez and /readyz; 0 takes a free one", _whole(0, 65535)),
    _Option("log-level", "info", "debug, info, warning or error", _level),
    _Option("workers", str(_T.workers), "writes under way at once", _whole(1, 1024)),
    _Option("resync-s", f"{_T.resync_s:g}", "seconds between two looks at everything", _number(5, 86_400)),
    _Option("sweep-s", f"{_T.sweep_s:g}", "seconds between two sweeps for what nobody owns", _number(1, 86_400)),
    _Option(
        "sweep-share",
        f"{_T.sweep_share:g}",
        "a sweep that would free more than this share of a subnet's users (and more than 10) stops",
        _number(0, 1),
    ),
    _Option("request-limit-s", f"{_T.request_limit_s:g}", "longest life of one write", _number(1, 60)),
    _Option(
        "watch-silence-s",
        f"{_T.watch_silence_s:g}",
        "a watch that says nothing for so long, not even that nothing is new, is opened again",
        _number(1, 3600),
    ),
    _Option("status-every-s", f"{_T.status_every_s:g}", "a Subnet's numbers at most this often", _number(0.1, 60)),
    _Option("drain-s", f"{_T.drain_s:g}", "how long a shutdown waits for what is under way", _number(0, 300)),
    _Option("protect-in-use", "true", "an IP that a live pod uses outlives its own deletion", _truth),
    _Option("pod-nic-type", _T.pod_nic_type, "annotation pod_nic_type of new pods", _text),
    _Option(
        "keep-vm-ip",
        "true",
        "a VM keeps its address when its pods go (also ENABLE_KEEP_VM_IP)",
        _truth,
        "ENABLE_KEEP_VM_IP",
    ),
    _Option(
        "enable-live-migration-optimize",
        "true",
        "a migrating VM's port has the options requested-chassis and activation-strategy",
        _truth,
        "ENABLE_LIVE_MIGRATION_OPTIMIZE",
    ),
    _Option("identity", "", "holder of the Lease; empty: POD_NAME, else the host's name, and the process", str),
    _Option("lease-namespace", _T.lease_namespace, "namespace of the Lease", _text),
    _Option("lease-name", _T.lease_name, "name of the Lease", _text),
    _Option(
        "kube-ovn-lease",
        _T.kube_ovn_lease,
        "namespace/name of the Lease of Kube-OVN's controller: nothing is managed while it is live; empty: never mind",
        _lease,
    ),
    _Option("lease-duration-s", f"{_T.lease_duration_s:g}", "a silent leader is replaced after this", _number(1, 300)),
    _Option(
        "renew-deadline-s", f"{_T.renew_deadline_s:g}", "a leader that cannot renew stops by then", _number(0.5, 300)
    ),
    _Option("retry-period-s", f"{_T.retry_period_s:g}", "pause between two tries at the Lease", _number(0.1, 60)),
)


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings, flags before environment before defaults; raises Invalid with all that is wrong."""
    parser = argparse.ArgumentParser(prog="keepip", description="IP addresses that stay where people put them")
    for option in OPTIONS:
        text = f"{option.help} [{option.variable}, default {option.default or 'empty'}]"
        parser.add_argument(f"--{option.flag}", metavar="X", help=text)
    given = vars(parser.parse_args(arguments))
    values: dict[str, object] = {}
    wrong: list[str] = []
    for option in OPTIONS:
        name = option.flag.replace("-", "_")
        text = given[name] if given[name] is not None else option.told(environment)
        try:
            values[name] = option.check(text)
        except ValueError as why:
            wrong.append(f"--{option.flag} ({option.variable}) is {text!r}: {why}")
    wrong += _together(values)
    if wrong:
        raise Invalid("\n".join(wrong))
    return _settings(values, environment)


def _together(values: Mapping[str, object]) -> list[str]:
    """What is only wrong in company."""
    wrong = _missing(values)
    names = ("lease_duration_s", "renew_deadline_s", "retry_period_s", "request_limit_s")
    found = [values.get(name) for name in names]
    if not all(isinstance(v, float) for v in found):
        return wrong
    duration, renew, retry, request = (float(str(v)) for v in found)
    if not duration > renew:
        wrong.append(f"--lease-duration-s {duration:g} must be more than --renew-deadline-s {renew:g}")
    if not renew > 1.2 * retry:
        wrong.append(f"--renew-deadline-s {renew:g} must be more than 1.2 times --retry-period-s {retry:g}")
    if request > renew:
        wrong.append(f"--request-limit-s {request:g} must not be more than --renew-deadline-s {renew:g}")
    return wrong


def _missing(values: Mapping[str, object]) -> list[str]:
    """Files that ssl: remotes need; who has none of those needs no files."""
    nb = values.get("nb")
    if not isinstance(nb, tuple) or not any(remote.startswith("ssl:") for remote in nb):
        return []
    files = [(flag, values.get(flag.replace("-", "_"))) for flag in ("nb-key", "nb-certificate", "nb-ca")]
    return [
        f"--{flag} is {str(path)!r}: ssl: needs it, and there is no such file"
        for flag, path in files
        if isinstance(path, Path) and not path.is_file()
    ]


def _settings(values: dict[str, object], environment: Mapping[str, str]) -> Settings:
    """Raises nothing: everything was checked."""
    host = environment.get("POD_NAME") or socket.gethostname()
    values["identity"] = values["identity"] or f"{host}_{os.urandom(4).hex()}"
    tuning = Tuning(**{f.name: values[f.name] for f in fields(Tuning)})  # type: ignore[arg-type]
    return Settings(
        nb=values["nb"],  # type: ignore[arg-type]
        **{name: values[name] for name in ("nb_key", "nb_certificate", "nb_ca")},  # type: ignore[arg-type]
        kubeconfig=values["kubeconfig"],  # type: ignore[arg-type]
        http_host=str(values["http_host"]),
        http_port=int(str(values["http_port"])),
        log_level=str(values["log_level"]),
        tuning=tuning,
    )
