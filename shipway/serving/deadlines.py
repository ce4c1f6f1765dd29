"""Whether a request can still be answered in time."""

import math

from shipway.payloads.errors import BadRequest, DeadlinePassed
from shipway.payloads.request import Request

SENT = "x-request-start"
"""The header in which a proxy or client says when it sent a request: seconds since 1970, as nginx's
`t=${msec}` writes them, or milliseconds, or microseconds."""
WITHIN = "x-envoy-expected-rq-timeout-ms"
"""The header with the time to answer it, in milliseconds after that. Envoy sets it."""
FRONT_WITHIN = "x-shipway-within-ms"
"""What the front makes of that header, which its Envoy would keep."""
GRPC_WITHIN = "grpc-timeout"
"""The header that gRPC's libraries send for a call with a deadline: at most eight digits and a unit
(grpc.github.io/grpc/core/md_doc__p_r_o_t_o_c_o_l-_h_t_t_p2.html)."""
_DEADLINES = {WITHIN, FRONT_WITHIN, GRPC_WITHIN}
_UNIT_MS = {"H": 3_600_000.0, "M": 60_000.0, "S": 1_000.0, "m": 1.0, "u": 1e-3, "n": 1e-6}

LONGEST_WAIT_S = 3600.0
"""No proxy keeps a request for so long: its clock is wrong, or the header's value made up."""
LATELY_S = 1.0
"""How long a measured batch predicts the next one, in seconds."""


class Deadlines:
    """Refuses requests that would be answered too late, before any work is done for them.

    Under overload, a queue that is served in order yields the requests that have waited longest.
    If those whose deadline has not quite passed were run, most would be answered too late. So the
    time that is left must be enough for a batch, which is estimated from recent ones.
    """

    def __init__(self) -> None:
        self._mean_s = self._deviation_s = 0.0
        self._last_run = -math.inf

    def check(self, request: Request, now: float) -> None:
        """Raises DeadlinePassed, or BadRequest for a deadline that is not a number. `now` is in
        seconds since 1970."""
        if error := self.why_late(request, now):
            raise error

    def why_late(
        self, request: Request, now: float, received: float | None = None
    ) -> BadRequest | DeadlinePassed | None:
        """What `check` raises, or None. `received`, in seconds since 1970, counts for a request
        that does not say when it was sent."""
        if request.headers and not (_DEADLINES & request.headers.keys()):
            return None
        within = request.header(WITHIN) or request.header(FRONT_WITHIN)
        within_ms = _number(within) if within else _grpc_ms(request.header(GRPC_WITHIN))
        if within_ms is None:
            if not within:
                return None
            return BadRequest(
                f"The header {WITHIN} is {within[:40]!r}; expected a number of milliseconds "
                "above 0. Correct the header."
            )
        sent = sent_at(request, now) or received
        waited_ms = 0.0 if sent is None else max(0.0, 1000 * (now - sent))
        # Most calls have a deadline, often a generous one, so only its passing refuses them.
        needed_ms = 1000 * self._needed_s(now) if within else 0.0
        if waited_ms + needed_ms < within_ms:
            return None
        return DeadlinePassed(
            f"The deadline of {within_ms:.0f} ms cannot be met: the request has waited for "
            f"{waited_ms:.0f} ms, and processing currently takes {needed_ms:.0f} ms. Send "
            "it again when the server has less load, or allow more time."
        )

    def ran(self, took_s: float, now: float) -> None:
        """Records a batch: its seconds in the handler, and when it began, in seconds since 1970."""
        # RFC 6298's estimate of the longest time of an answer, with its weights.
        if self._mean_s:
            self._deviation_s += (abs(took_s - self._mean_s) - self._deviation_s) / 4
            self._mean_s += (took_s - self._mean_s) / 8
        else:
            self._mean_s, self._deviation_s = took_s, took_s / 2
        self._last_run = now

    def _needed_s(self, now: float) -> float:
        # An old measurement predicts nothing: one slow batch must not refuse all others for good.
        if now - self._last_run > LATELY_S:
            return 0.0
        return self._mean_s + 4 * self._deviation_s


def sent_at(request: Request, now: float) -> float | None:
    """When the request was sent, in seconds since 1970, as is `now`. None if it does not say, or
    says nothing sensible."""
    since = _number(request.header(SENT).removeprefix("t="))
    if since is None:
        return None
    # Some proxies write milliseconds or microseconds; as seconds these would be centuries ahead.
    since = since / 1e6 if since > 1e14 else since / 1e3 if since > 1e11 else since
    return since if now - since < LONGEST_WAIT_S else None


def _grpc_ms(text: str) -> float | None:
    """Milliseconds; None for what gRPC's libraries do not send."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNIT_MS or not number.isdecimal() or len(number) > 8:
        return None
    return int(number) * _UNIT_MS[unit]


def _number(text: str) -> float | None:
    """A finite number above 0."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < math.inf else None
