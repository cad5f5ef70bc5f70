"""Every setting by flag and environment, all wrong ones said at once (contract §9)."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from controller.process import settings
from controller.process.settings import OPTIONS, Invalid, load
from controller.reconcilers.settings import Tuning

VALID: dict[str, tuple[str, object]] = {
    "nb": ("tcp:10.0.0.1:6641,tcp:[fd00::1]:6641", ("tcp:10.0.0.1:6641", "tcp:[fd00::1]:6641")),
    "nb-key": ("/etc/tls/tls.key", Path("/etc/tls/tls.key")),
    "nb-certificate": ("/etc/tls/tls.crt", Path("/etc/tls/tls.crt")),
    "nb-ca": ("/etc/tls/ca.crt", Path("/etc/tls/ca.crt")),
    "kubeconfig": (__file__, Path(__file__)),
    "http-host": ("127.0.0.1", "127.0.0.1"),
    "http-port": ("0", 0),
    "log-level": ("debug", "debug"),
    "mode": ("observe", "observe"),
    "workers": ("7", 7),
    "resync-s": ("60s", 60.0),
    "sweep-s": ("30", 30.0),
    "sweep-share": ("0.5", 0.5),
    "request-limit-s": ("5", 5.0),
    "watch-silence-s": ("75", 75.0),
    "status-every-s": ("0.5", 0.5),
    "drain-s": ("0", 0.0),
    "protect-in-use": ("off", False),
    "pod-nic-type": ("internal-port", "internal-port"),
    "keep-vm-ip": ("off", False),
    "enable-live-migration-optimize": ("false", False),
    "identity": ("me", "me"),
    "lease-namespace": ("kube-system", "kube-system"),
    "lease-name": ("other", "other"),
    "kube-ovn-lease": ("ovn/controller", "ovn/controller"),
    "lease-duration-s": ("20", 20.0),
    "renew-deadline-s": ("12", 12.0),
    "retry-period-s": ("1", 1.0),
}
WRONG = {
    "nb": ("", "http:x", "tcp:host", "unix:/a,,bad"),
    "nb-key": ("",),
    "nb-certificate": ("",),
    "nb-ca": ("",),
    "kubeconfig": ("nowhere/at/all",),
    "http-host": ("",),
    "http-port": ("-1", "65536", "x", "1.5"),
    "log-level": ("loud", "DEBUG"),
    "mode": ("", "Observe", "watch"),
    "workers": ("0", "1025", "many"),
    "resync-s": ("1", "x", "nan"),
    "sweep-s": ("0", "x"),
    "sweep-share": ("-0.1", "1.5", "half"),
    "request-limit-s": ("0", "61"),
    "watch-silence-s": ("0", "never"),
    "status-every-s": ("0", "inf"),
    "drain-s": ("-1", "301"),
    "protect-in-use": ("perhaps", ""),
    "pod-nic-type": ("",),
    "keep-vm-ip": ("maybe",),
    "enable-live-migration-optimize": ("", "2"),
    "identity": (),
    "lease-namespace": ("",),
    "lease-name": ("",),
    "kube-ovn-lease": ("controller", "/controller", "ovn/"),
    "lease-duration-s": ("0.5", "301"),
    "renew-deadline-s": ("0.1", "x"),
    "retry-period-s": ("0", "61"),
}


def value(told: settings.Settings, flag: str) -> object:
    name = flag.replace("-", "_")
    return getattr(told, name) if hasattr(told, name) else getattr(told.tuning, name)


def test_every_option_is_tested_here() -> None:
    """And every tuning of the shell can be told."""
    flags = {option.flag for option in OPTIONS}

    assert flags == VALID.keys() == WRONG.keys()
    assert {f.name for f in fields(Tuning)} <= {flag.replace("-", "_") for flag in flags}


def test_the_defaults_are_valid_and_those_of_the_shell() -> None:
    """A bare `keepip` starts; its identity is told apart from every other process's."""
    one, two = load([], {}), load([], {"POD_NAME": "keepip-0"})

    assert one.tuning.identity != load([], {}).tuning.identity
    assert two.tuning.identity.startswith("keepip-0_")
    assert all(getattr(one.tuning, f.name) == getattr(Tuning(), f.name) for f in fields(Tuning) if f.name != "identity")


@pytest.mark.parametrize("flag", VALID)
def test_an_option_is_told_by_flag_or_environment(flag: str) -> None:
    """The flag comes first."""
    text, parsed = VALID[flag]
    variable = "KEEPIP_" + flag.upper().replace("-", "_")

    assert value(load([f"--{flag}", text], {variable: "nonsense"}), flag) == parsed
    assert value(load([], {variable: text}), flag) == parsed


@pytest.mark.parametrize("flag", ["keep-vm-ip", "enable-live-migration-optimize"])
def test_what_kube_ovns_installer_calls_otherwise_is_understood(flag: str) -> None:
    """Its ENABLE_KEEP_VM_IP and the like, where neither our flag nor our variable says anything."""
    own = flag.upper().replace("-", "_")
    theirs = own if own.startswith("ENABLE") else f"ENABLE_{own}"

    assert value(load([], {theirs: "false"}), flag) is False
    assert value(load([], {theirs: "false", f"KEEPIP_{own}": "true"}), flag) is True
    assert value(load([f"--{flag}", "true"], {theirs: "false"}), flag) is True


@pytest.mark.parametrize(("flag", "text"), [(flag, text) for flag, found in WRONG.items() for text in found])
def test_a_wrong_value_is_said_with_its_flag_and_variable(flag: str, text: str) -> None:
    """In one line."""
    with pytest.raises(Invalid) as wrong:
        load([f"--{flag}={text}"], {})

    (line,) = str(wrong.value).splitlines()
    assert f"--{flag} (KEEPIP_" in line


def test_all_that_is_wrong_is_said_at_once() -> None:
    """One message each, so that a person corrects them in one go."""
    wrong = {flag: found[0] for flag, found in WRONG.items() if found}
    with pytest.raises(Invalid) as said:
        load([f"--{flag}={text}" for flag, text in wrong.items()], {})

    assert len(str(said.value).splitlines()) == len(wrong)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (("--lease-duration-s=10", "--renew-deadline-s=10"), "must be more than --renew-deadline-s"),
        (("--renew-deadline-s=10", "--retry-period-s=9"), "1.2 times"),
        (
            ("--nb=ssl:nb.example:6641", "--nb-ca=nowhere"),
            "--nb-ca is 'nowhere': ssl: needs it, and there is no such file",
        ),
        (("--request-limit-s=11",), "must not be more than --renew-deadline-s"),
    ],
)
def test_what_is_only_wrong_in_company_is_said_too(told: tuple[str, ...], says: str) -> None:
    """A deposed leader's requests must end before its lease does."""
    with pytest.raises(Invalid, match=says):
        load(told, {})


@pytest.mark.parametrize("text", ["true", "YES", "on", "1"])
def test_truth_has_several_spellings(text: str) -> None:
    """As people write it."""
    assert load(["--protect-in-use", text], {}).tuning.protect_in_use
