"""Certificates for the time of the tests, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

DEADLINE_S = 60
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
HERE = "IP:127.0.0.1,DNS:localhost"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=DEADLINE_S)


class Authority:
    """Issues certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"
        files = ["-keyout", self.key, "-out", self.certificate, "-subj", f"/CN={name}"]
        openssl("req", "-x509", *EC, *files, "-days", "2")

    def issue(self, name: str, alternative: str = HERE, days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key."""
        certificate, key, request = (self.folder / f"{name}.{kind}" for kind in ("pem", "key", "r"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n", "utf-8")
        openssl("req", *EC, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        by = ["-CA", self.certificate, "-CAkey", self.key, "-extfile", extensions]
        openssl("x509", "-req", "-in", request, *by, "-days", str(days), "-out", certificate)
        return certificate, key

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)
