"""The only importer of the Elasticsearch client: requests that are repeated while there is hope, errors sorted.

Connection errors, half answers, 429 and 5xx are tried again with back-off and jitter for a bounded time. 401, 403 and
whatever else the cluster refuses become a StoreUnavailableError that says what an operator can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError

from detector.alerts import Document
from detector.settings import ElasticsearchSettings
from detector.stores import StoreUnavailableError, bulk

Answer = TypeVar("Answer")
PAGE = 500
WIDE_PAGE = 5000  # of hits with some fields only


class NotAllowedError(StoreUnavailableError):
    """401 or 403: only an operator can help."""


class Cluster:
    """An Elasticsearch cluster; every call keeps trying for at most `patience_s` seconds."""

    def __init__(self, settings: ElasticsearchSettings, patience_s: float) -> None:
        self.url = settings.url
        self._patience_s = patience_s
        try:
            self._client = Elasticsearch(
                settings.url,
                api_key=settings.api_key.get_secret_value() or None,
                ca_certs=settings.ca_certs or None,  # type: ignore[arg-type]  # None: the system's
                request_timeout=settings.timeout_s,
                max_retries=0,  # retries are ours: the client's hide what happened to single items
            )
        except (ValueError, OSError) as error:
            raise StoreUnavailableError(f"[elasticsearch] url or ca_certs cannot be used: {error}") from error

    def request(self, method: str, path: str, body: Document | None = None, tolerate: Sequence[int] = ()) -> Document:
        """Call an API by its path; a status in `tolerate` returns what the cluster said."""
        headers = {"accept": "application/json", "content-type": "application/json"}

        def send() -> Document:
            try:
                return _object(self._client.perform_request(method, path, headers=headers, body=body).body)
            except ApiError as error:
                if error.meta.status not in tolerate:
                    raise
                return error.body if isinstance(error.body, dict) else {}

        return self._call(send)

    def read_many(self, keys: Sequence[tuple[str, str]]) -> list[Document]:
        """Return the answer to each (index, id), as it is now: `found`, `_source`, `_seq_no`, `_primary_term`."""
        answers: list[Document] = []
        for start in range(0, len(keys), PAGE):
            docs = [{"_index": index, "_id": identity} for index, identity in keys[start : start + PAGE]]
            answers += self.request("POST", "/_mget", {"docs": docs})["docs"]
        for answer in answers:
            fault = (answer.get("error") or {}).get("type")
            if fault not in {None, "index_not_found_exception"}:  # unreadable now is not deleted
                raise StoreUnavailableError(f"{self.url}: {answer.get('_index')} cannot be read: {fault}")
        return answers

    def refresh(self, target: str) -> None:
        """Make what was written visible to searches; a key that may only read sees it a second later."""
        with suppress(NotAllowedError):
            self._call(lambda: self._client.indices.refresh(index=target, ignore_unavailable=True))

    def search(
        self, target: str, query: Document, order: Sequence[Document], limit: int, fields: Sequence[str] = ()
    ) -> Iterator[Document]:
        """Yield hits page by page, whole or with some fields only; none where the index does not exist yet.

        `order` must be total.
        """
        after: Sequence[Any] | None = None
        while limit > 0:
            size = min(limit, WIDE_PAGE if fields else PAGE)
            hits = self._search_page(target, query, order, size, after, fields)
            yield from hits
            if len(hits) < size:
                return
            after, limit = hits[-1]["sort"], limit - size

    def _search_page(
        self,
        target: str,
        query: Document,
        order: Sequence[Document],
        size: int,
        after: Sequence[Any] | None,
        fields: Sequence[str],
    ) -> list[Document]:
        def send() -> list[Document]:
            answer = self._client.search(
                index=target,
                query=query,
                sort=order,
                size=size,
                search_after=after,  # values as the cluster gave them
                source_includes=list(fields) or None,
                ignore_unavailable=True,
                allow_partial_search_results=False,  # half of the alerts is no answer
            )
            hits: list[Document] = _object(answer.body)["hits"]["hits"]
            return hits

        return self._call(send)

    def apply(self, actions: Sequence[bulk.Action]) -> list[bulk.Outcome]:
        """Apply all actions; return one outcome each, in order."""
        return bulk.run(actions, self._send, bulk.Patience(self._patience_s)) if actions else []

    def _send(self, lines: list[bytes]) -> list[dict[str, Any]]:
        try:
            with self._errors():
                answer = self._client.bulk(operations=lines)  # type: ignore[arg-type]  # lines that are JSON already
                items: list[dict[str, Any]] = _object(answer.body)["items"]
                return items
        except ApiError as error:
            if error.meta.status == 413:
                raise bulk.RequestTooLargeError(_reason(error)) from error
            raise self._refused(error) from error

    def _call(self, send: Callable[[], Answer]) -> Answer:
        patience = bulk.Patience(self._patience_s)
        while True:
            try:
                with self._errors():
                    return send()
            except bulk.TryAgainError as error:
                patience.wait(str(error))
            except ApiError as error:
                raise self._refused(error) from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Sort what went wrong: try again, or tell the operator; other answers of the API pass through."""
        try:
            yield
        except UnsupportedProductError as error:
            raise StoreUnavailableError(f"{self.url} is not Elasticsearch: check [elasticsearch] url") from error
        except (TransportError, KeyError) as error:  # KeyError: JSON, but not the API's
            raise bulk.TryAgainError(f"{self.url} gives no usable answer: {error}") from error
        except ApiError as error:
            status = error.meta.status
            if status == 429 or status >= 500:
                raise bulk.TryAgainError(f"{self.url} is overloaded or failing ({status}): {_reason(error)}") from error
            if status in {401, 403}:
                what = "does not know our API key" if status == 401 else "does not allow this with our API key"
                advice = "check [elasticsearch] api_key"
                raise NotAllowedError(f"{self.url} {what} ({status}): {advice}. {_reason(error)}") from error
            raise

    def _refused(self, error: ApiError) -> StoreUnavailableError:
        return StoreUnavailableError(f"{self.url} refuses the request ({error.meta.status}): {_reason(error)}")

    def close(self) -> None:
        """Close the connections; safe to call twice."""
        self._client.close()


def _object(body: Any) -> Document:
    """Return the answer when it is a JSON object; a proxy's page of text is none."""
    if not isinstance(body, dict):
        raise bulk.TryAgainError("Elasticsearch's answer is not a JSON object: does a proxy stand in between?")
    return body


def _reason(error: ApiError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    cause = body.get("error")
    if isinstance(cause, dict):
        return ": ".join(str(cause[key]) for key in ("type", "reason") if cause.get(key))[:300]
    return str(cause or error.body or error)[:300]
