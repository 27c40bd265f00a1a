"""Receives with a library and writes what it gets, one JSON document a line, as receive.mjs does.

Arguments: the library, the address, and headers as "name: value".

These libraries read one response. To come back, with the id of the last event and after the time that the server asks
for, is left to their users, who write a loop like the one below.
"""

import json
import sys
import time

import httpx
import httpx_sse
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
            yield from source.iter_sse()


def by_sseclient(address, headers):
    headers["Accept"] = "text/event-stream"
    with httpx.stream("GET", address, headers=headers, timeout=None) as response:
        check(response.status_code)
        yield from sseclient.SSEClient(response.iter_bytes()).events()


RECEIVERS = {
    "httpx-sse": by_httpx_sse,
    "sseclient-py": by_sseclient,
}


def main(library, address, *lines):
    headers = dict(line.split(": ", 1) for line in lines)
    retry = RETRY
    while True:
        try:
            for event in RECEIVERS[library](address, dict(headers)):
                if event.retry is not None:
                    retry = int(event.retry) / 1000
                if event.id:
                    headers["Last-Event-ID"] = event.id
                say({"type": event.event, "data": event.data, "id": event.id or ""})
        except Refused as refused:
            say({"refused": refused.args[0]})
            return
        except httpx.TransportError:
            pass
        say({"lost": True})
        time.sleep(retry)


main(*sys.argv[1:])
