"""One question to a server that a trusted certificate names: no credentials, no redirects."""

from __future__ import annotations

from ig_py.errors import IgPyError, RegistryError, VerificationError
from ig_py.oci import limits

SECONDS = 5.0
"""For a whole answer."""


def ask(url: str, *, body: bytes | None = None, kind: str = "", limit: int) -> bytes:
    """The answer to a GET, or to a POST of *body*, which is of the media type *kind*.

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
        raise VerificationError(f"{url[:200]!r} is no address of HTTP") from None
    where = redacted(url)
    watchdog = Watchdog()
    session = requests.Session()
    session.trust_env = False
    try:
        for prefix in ("http://", "https://"):
            session.mount(prefix, watchdog.adapter())
        with watchdog.limit(SECONDS):
            response = session.request(
                "GET" if body is None else "POST",
                url,
                data=body,
                headers={"Accept-Encoding": "identity", **({"Content-Type": kind} if kind else {})},
                timeout=SECONDS,
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
        raise VerificationError(f"{where} did not answer within {SECONDS:g} s") from None
    except IgPyError as err:
        raise VerificationError(err.message) from err
    except FAILURES as err:
        raise VerificationError(explain(err, where, host).message) from err
    finally:
        session.close()
        watchdog.close()
