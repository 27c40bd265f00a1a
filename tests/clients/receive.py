"""Receives with a library and writes what it gets, one JSON document a line, as receive.mjs does.

Arguments: the library, the address, and headers as "name: value".

Most of these libraries read one response. To come back, with the id of the last event and after the time that the
server asks for, is left to their users, who write a loop like the one below. `requests-sse` comes back by itself.
"""

import json
import sys
import time
from datetime import timedelta

import httpx
import httpx_sse
import requests
import requests_sse
import sseclient

# Seconds, until the server says something else.
RETRY = 1.0


class Refused(Exception):
    """The reply is no event stream, and will not become one."""


def say(what):
    print(json.dumps(what), flush=True)


def check(status):
    if status != 200:
        raise Refused(status)
    say({"open": True})


def by_httpx_sse(address, headers):
    with httpx.Client(timeout=None) as client:
        with httpx_sse.connect_sse(client, "GET", address, headers=headers) as source:
            check(source.response.status_code)
            for event in source.iter_sse():
                yield event.event, event.data, event.id, event.retry


def by_sseclient(chunks):
    for event in sseclient.SSEClient(chunks).events():
        yield event.event, event.data, event.id, event.retry


def by_sseclient_over_httpx(address, headers):
    headers["Accept"] = "text/event-stream"
    with httpx.stream("GET", address, headers=headers, timeout=None) as response:
        check(response.status_code)
        yield from by_sseclient(response.iter_bytes())


def by_sseclient_over_requests(address, headers):
    headers["Accept"] = "text/event-stream"
    with requests.get(address, headers=headers, stream=True) as response:
        check(response.status_code)
        yield from by_sseclient(response)


def by_requests_sse(address, headers):
    source = requests_sse.EventSource(
        address,
        headers=headers,
        reconnection_time=timedelta(seconds=RETRY),
        on_open=lambda: say({"open": True}),
        on_error=lambda: say({"lost": True}),
    )
    try:
        with source:
            for event in source:
                yield event.type, event.data, event.last_event_id, None
    except requests_sse.InvalidStatusCodeError as refusal:
        raise Refused(refusal.status_code) from refusal


RECEIVERS = {
    "httpx-sse": by_httpx_sse,
    "requests-sse": by_requests_sse,
    "sseclient-py": by_sseclient_over_httpx,
    "sseclient-py over requests": by_sseclient_over_requests,
}


def main(library, address, *lines):
    headers = dict(line.split(": ", 1) for line in lines)
    retry = RETRY
    while True:
        try:
            for kind, data, event_id, asked in RECEIVERS[library](address, dict(headers)):
                if asked is not None:
                    retry = int(asked) / 1000
                if event_id:
                    headers["Last-Event-ID"] = event_id
                say({"type": kind, "data": data, "id": event_id or ""})
        except Refused as refused:
            say({"refused": refused.args[0]})
            return
        except (httpx.TransportError, requests.RequestException):
            pass
        say({"lost": True})
        time.sleep(retry)


main(*sys.argv[1:])
