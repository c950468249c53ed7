"""A request that is not served: its status and one sentence."""

from __future__ import annotations

from audiorep.errors import AudioError, AudiorepError, BundleError, MissingExtraError

BAD_REQUEST, NO_TOKEN, FORBIDDEN, NOT_FOUND, TOO_SLOW, TOO_LARGE, UNUSABLE, TOO_MANY = 400, 401, 403, 404, 408, 413, 422, 429
FAILED, BUSY = 500, 503
CLIENT_LEFT = 499  # as servers log it; nobody reads the answer


class Refusal(Exception):  # noqa: N818 (no error of ours: the answer to a client)
    """The answer to a request that is not served.

    Args:
        status: of HTTP.
        sentence: for people.
        headers: more of them.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


class ClientLeft(Exception):  # noqa: N818 (nothing is wrong)
    """The client closed its connection before it was answered."""


def of_error(error: AudiorepError) -> Refusal:
    """The refusal that an error of the library becomes."""
    if isinstance(error, AudioError):
        return Refusal(TOO_LARGE if error.kind == "too-large" else UNUSABLE, str(error))
    return Refusal(FAILED if isinstance(error, BundleError | MissingExtraError) else BAD_REQUEST, str(error))
