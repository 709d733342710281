from __future__ import annotations

from pathlib import Path

import pytest

from vantun.config import load_server
from vantun.errors import ConfigError
from vantun.password_hash import make_hash

TLS = "tls: {cert: a.pem, key: b.pem}\n"


def load(folder: Path, text: str) -> dict[str, str]:
    path = folder / "vantun.yaml"
    path.write_text(TLS + text)
    config = load_server(path)
    assert "s3cret" not in repr(config)
    return {"": config.auth.password} if config.auth.type == "password" else config.auth.users


def test_plain_and_hashed_passwords(tmp_path: Path) -> None:
    hashed = make_hash("s3cret", 10)
    users = load(tmp_path, f"auth: {{type: userpass, userpass: {{alice: '{hashed}', bob: s3cret}}}}")
    assert users == {"alice": hashed, "bob": "s3cret"}
    assert load(tmp_path, f"auth: {{type: password, password: '{hashed}'}}") == {"": hashed}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auth: {type: userpass, userpass: {alice: 'scrypt:16$s3cret'}}", "vantun.yaml:2: auth.userpass.alice: begins"),
        ("auth: {type: password, password: '$scrypt$s3cret'}", "vantun.yaml:2: auth.password: expected begins as an"),
        ("auth: {type: userpass, userpass: {'a:b': s3cret}}", "has no ':'"),
        ("auth: {type: userpass, userpass: {alice: ''}}", "the password is empty"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert "s3cret" not in str(caught.value)
