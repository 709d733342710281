"""Which card the paths of a configuration leave by."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.linux.affinity import Place
from vantun.config import ClientConfig, ServerConfig
from vantun.config_kinds import Endpoint
from vantun.config_paths import MultipathConfig, PathConfig
from vantun.config_servers import ClientTlsConfig
from vantun.control import worker_count
from vantun.control.worker_card import card_of

ROUTES = {"192.0.2.1": "ens1", "2001:db8::1": "ens2", "198.51.100.7": "ens3"}
OWNERS = {"10.0.0.1": "ens1", "10.0.1.1": "ens2", "fd00::1": "ens2"}


def server(host: str) -> str:
    config = ServerConfig(tls=None, auth=None, listen=Endpoint(host, 443))  # type: ignore[arg-type]
    return card_of(config, ROUTES.get, OWNERS.get)


@pytest.mark.parametrize(
    ("host", "card"),
    [("", "ens1"), ("0.0.0.0", "ens1"), ("::", "ens1"), ("10.0.1.1", "ens2"), ("fd00::1", "ens2"), ("10.9.9.9", "")],
)
def test_a_server_has_its_address_on_a_card_or_everywhere(host: str, card: str) -> None:
    assert server(host) == card


def test_a_machine_with_ipv6_alone() -> None:
    config = ServerConfig(tls=None, auth=None)  # type: ignore[arg-type]
    assert card_of(config, {"2001:db8::1": "ens2"}.get, OWNERS.get) == "ens2"
    assert card_of(config, lambda _: None, OWNERS.get) == ""


def client(*paths: PathConfig, auto: bool = False) -> str:
    config = ClientConfig(paths[0].server, "x", paths, ClientTlsConfig(), multipath=MultipathConfig(auto=auto))
    return card_of(config, ROUTES.get, OWNERS.get)


NAMED = Endpoint("gw.example.org", 443)
NEAR, FAR = PathConfig("near", NAMED), PathConfig("far", Endpoint("198.51.100.7", 443))


def test_a_client_has_the_card_of_its_paths_if_it_is_one() -> None:
    assert client(NEAR) == "ens1", "names are not resolved for this"
    assert client(FAR) == "ens3"
    assert client(PathConfig("dsl", NAMED, source="10.0.1.1")) == "ens2"
    assert client(PathConfig("lte", NAMED, interface="wwan0")) == "wwan0"
    assert client(NEAR, PathConfig("also", NAMED, interface="ens1")) == "ens1"
    assert client(NEAR, FAR) == ""
    assert client(NEAR, auto=True) == ""


def test_an_appliance_places_its_workers_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_count, "card_of", lambda _: "ens7")
    monkeypatch.setattr(worker_count, "plan_affinity", lambda workers, card, _: [Place(0, 0, f"{workers} near {card}")])
    places = worker_count.places_of(ServerConfig(tls=None, auth=None), 2)  # type: ignore[arg-type]
    assert places[0].why == "2 near ens7"


def test_this_machine_is_asked_without_harm() -> None:
    found = card_of(ServerConfig(tls=None, auth=None))  # type: ignore[arg-type]
    assert not found or Path("/sys/class/net", found).exists()
