"""Within a network namespace: connections to loopback ports go out to the same ports elsewhere.

    python forward.py ADDRESS READY_FILE PORT…

Ends with its standard input. Standard library only, as it is started once for each namespace.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path


async def main(address: str, ready: str, ports: list[int]) -> None:
    for port in ports:

        async def connected(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port
        ) -> None:
            try:
                there, out = await asyncio.open_connection(address, port)
            except OSError:
                writer.transport.abort()
                return
            await asyncio.gather(_copy(reader, out), _copy(there, writer))

        await asyncio.start_server(connected, "127.0.0.1", port)
    Path(ready).touch()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
    finally:
        with suppress(OSError):
            writer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], [int(port) for port in sys.argv[3:]]))
