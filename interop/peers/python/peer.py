"""libp2p's yamux in Python as a peer program. What it does is told at the top of src/peer/engine.rs."""

import argparse
import os
import sys
import traceback
from functools import partial

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.stream_muxer.yamux.yamux import Yamux

PERIOD = 251
CHUNK = 64 << 10

# What a direction of a stream carries, often enough for any write.
PATTERN = bytes(range(PERIOD)) * ((16 << 20) // PERIOD + 2)


def part(at, count):
    return PATTERN[at % PERIOD : at % PERIOD + count]


def say(*words):
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())


class NotAvailable(Exception):
    pass


class WrongBytes(Exception):
    pass


class Held:
    """A stream, with how far each direction has come."""

    def __init__(self, stream):
        self.stream = stream
        self.bytes_read = self.bytes_written = 0

    async def write(self, count):
        data = part(self.bytes_written, count)
        self.bytes_written += count
        await self.stream.write(data)

    async def some(self, most):
        """Some bytes; their number. 0 at end of file. Checks them."""
        try:
            data = await self.stream.read(min(most, CHUNK))
        except MuxedStreamEOF:
            return 0
        if data != part(self.bytes_read, len(data)):
            raise WrongBytes(f"after {self.bytes_read} bytes")
        self.bytes_read += len(data)
        return len(data)

    async def read(self, count):
        while count > 0:
            read = await self.some(count)
            if read == 0:
                raise EOFError(f"end of file after {self.bytes_read} bytes")
            count -= read

    async def end(self):
        begin = self.bytes_read
        try:
            while await self.some(CHUNK) > 0:
                pass
        except WrongBytes:
            raise
        except Exception as error:
            return f"error {self.bytes_read - begin} {one_line(error)}"
        return f"eof {self.bytes_read - begin}"

    async def flood(self):
        for at in range(0, 64 << 20, 4096):
            try:
                await self.stream.write(PATTERN[:4096])
            except Exception as error:
                return f"error {at} {one_line(error)}"
        return "no-error"


async def connect(options):
    if options.dial:
        host, port = options.dial.split(":")
        return await trio.open_tcp_stream(host, int(port))
    host, port = options.listen.split(":")
    [listener] = await trio.open_tcp_listeners(int(port), host=host)
    say("listening", "{}:{}".format(*listener.socket.getsockname()))
    stream = await listener.accept()
    await listener.aclose()
    return stream


async def echo(stream):
    try:
        while True:
            try:
                data = await stream.read(CHUNK)
            except MuxedStreamEOF:
                break
            await stream.write(data)
        await stream.close()
    except Exception:
        traceback.print_exc()


class Program:
    def __init__(self, session, nursery):
        self.session, self.nursery = session, nursery
        self.streams = []

    async def serve(self):
        try:
            while True:
                self.nursery.start_soon(echo, await self.session.accept_stream())
        except Exception as error:
            print(one_line(error), file=sys.stderr)

    def hold(self, stream):
        self.streams.append(Held(stream))
        return len(self.streams)

    async def echo_one(self, size):
        held = Held(await self.session.open_stream())

        async def asks():
            await held.write(size)
            await held.stream.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asks)
            await held.read(size)
            end = await held.end()
        if end != "eof 0":
            raise EOFError(f"{end} instead of end of file")

    async def echoes(self, count, at_once, size, seconds):
        done, first = 0, ""
        places = trio.CapacityLimiter(at_once)

        async def one():
            nonlocal done, first
            async with places:
                try:
                    await self.echo_one(size)
                    done += 1
                except Exception as error:
                    while isinstance(error, ExceptionGroup):
                        error = error.exceptions[0]
                    first = first or one_line(error)

        with trio.move_on_after(seconds) as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(one)
        if scope.cancelled_caught:
            first = first or f"no end within {seconds} s"
        return f"{done} {count - done} {first}"

    async def obey(self, verb, *numbers):
        match verb:
            case "serve":
                self.nursery.start_soon(self.serve)
                return ""
            case "open":
                return self.hold(await self.session.open_stream())
            case "accept":
                return self.hold(await self.session.accept_stream())
            case "echo":
                return await self.echoes(*numbers)
            case "ping":
                raise NotAvailable("the library pings by itself alone")
            case "go-away":
                return await self.session.close()
        held = self.streams[numbers[0] - 1]
        match verb:
            case "write" | "read" | "end" | "flood":
                return await getattr(held, verb)(*numbers[1:])
            case "fin":
                return await held.stream.close()
            case "reset":
                return await held.stream.reset()
        raise ValueError(f"`{verb}` is no order")

    async def answer(self, line):
        number, verb, *words = line.split()
        try:
            answer = await self.obey(verb, *(int(word) for word in words))
            say(number, "ok", "" if answer is None else answer)
        except NotAvailable as error:
            say(number, "n/a", error)
        except Exception as error:
            say(number, "fail", one_line(error))


async def run_session(session):
    why = "it has ended"
    try:
        await session.start()
    except BaseException as error:
        why = one_line(error)
        raise
    finally:
        say("down", why)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dial")
    parser.add_argument("--listen")
    parser.add_argument("--serve", action="store_true")
    options = parser.parse_args()
    # Who started the program may be gone.
    with trio.fail_after(30):
        socket = await connect(options)
    is_client = options.dial is not None
    session = Yamux(RawConnection(TrioTCPStream(socket), is_client), ID(b"peer"), is_client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_session, session)
        await session.event_started.wait()
        program = Program(session, nursery)
        say("up")
        if options.serve:
            nursery.start_soon(program.serve)
        async for line in trio.wrap_file(sys.stdin):
            nursery.start_soon(partial(program.answer, line))
        # The library's tasks may wait forever.
        os._exit(0)


trio.run(main)
