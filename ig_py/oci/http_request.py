"""One HTTP request without credentials or redirects, under limits of time and size."""

from __future__ import annotations

from ig_py.errors import IgPyError, RegistryError, VerificationError
from ig_py.oci import limits

TIMEOUT_S = 5.0
"""Seconds for connecting and the whole answer."""


def http_request(url: str, *, body: bytes | None = None, kind: str = "", limit: int) -> bytes:
    """The body of the answer to a GET, or to a POST of *body* with the media type *kind*.

    Raises:
        VerificationError: There is none in time, its status is not 200, or it is larger than
            *limit* bytes.
    """
    import requests

    from ig_py.oci.http_errors import FAILURES, explain, origin, redacted
    from ig_py.oci.transport import CHUNK, proxies, trusted_certificates
    from ig_py.oci.watchdog import Expired, Watchdog

    try:
        host = origin(url)[1]
    except RegistryError:
        raise VerificationError(f"{url[:200]!r} is not an HTTP URL") from None
    where = redacted(url)
    watchdog = Watchdog()
    session = requests.Session()
    session.trust_env = False
    try:
        for prefix in ("http://", "https://"):
            session.mount(prefix, watchdog.adapter())
        with watchdog.limit(TIMEOUT_S):
            response = session.request(
                "GET" if body is None else "POST",
                url,
                data=body,
                headers={"Accept-Encoding": "identity", **({"Content-Type": kind} if kind else {})},
                timeout=TIMEOUT_S,
                allow_redirects=False,
                stream=True,
                verify=trusted_certificates(),
                proxies=proxies(url),
            )
            if response.status_code != 200:
                raise VerificationError(f"{where} answered {response.status_code}")
            answer = bytearray()
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                answer += chunk
                if len(answer) > limit:
                    raise VerificationError(f"{where} sent more than {limits.human(limit)}")
            return bytes(answer)
    except Expired:
        raise VerificationError(f"{where} did not answer within {TIMEOUT_S:g} s") from None
    except IgPyError as err:
        raise VerificationError(err.message) from err
    except FAILURES as err:
        raise VerificationError(explain(err, where, host).message) from err
    finally:
        session.close()
        watchdog.close()
