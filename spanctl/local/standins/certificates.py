"""The certificate that the running servers show: always one that still holds."""

import ssl
import threading
import time
from typing import Final

import grpc

from spanctl.local.standins.authority import Authority
from spanctl.local.standins.files import Places

_HOUR: Final = 3600.0


class Certificates:
    """The servers' certificate, looked at every hour: a stack may run for longer than it holds."""

    def __init__(self, places: Places, every: float = _HOUR) -> None:
        """Make or renew it now, and look again when so many seconds have gone by.

        Raises:
            OSError: The files can't be read or written.
        """
        self._places = places
        self._every = every
        self._authority = Authority(places)
        self._lock = threading.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._pair = (b"", b"")
        self._checked: float | None = None
        self._current()

    def _current(self) -> tuple[bytes, bytes]:
        """Return key and certificate, after a look if an hour has gone by."""
        with self._lock:
            if self._checked is None or time.monotonic() - self._checked >= self._every:
                self._authority.ensure()
                pair = (self._places.key.read_bytes(), self._places.certificate.read_bytes())
                if pair != self._pair:
                    self._context.load_cert_chain(self._places.certificate, self._places.key)
                    self._pair = pair
                self._checked = time.monotonic()
            return self._pair

    def context(self) -> ssl.SSLContext:
        """Return the settings for one HTTPS connection."""
        self._current()
        return self._context

    def for_grpc(self) -> grpc.ServerCredentials:
        """Return credentials that look at the certificate at each handshake."""
        shown = self._current()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            if self._current() == shown:
                return None
            shown = self._current()
            return grpc.ssl_server_certificate_configuration([shown])

        initial = grpc.ssl_server_certificate_configuration([shown])
        return grpc.dynamic_ssl_server_credentials(initial, fetch)
