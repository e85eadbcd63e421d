// libp2p's yamux in JavaScript as a peer program. What it does is told at the top of src/peer/engine.rs. Beside it lies
// library.mjs, which is one of library-7.mjs and library-8.mjs: what differs between the releases.
import net from 'node:net'
import readline from 'node:readline'
import { parseArgs } from 'node:util'
import { start } from './library.mjs'

const PERIOD = 251
const WINDOW = 64 << 10

// What a direction of a stream carries, often enough for any write.
const pattern = new Uint8Array((16 << 20) + PERIOD + WINDOW).map((_, at) => at % PERIOD)
const part = (at, count) => pattern.subarray(at % PERIOD, (at % PERIOD) + count)

const say = (...words) => process.stdout.write(words.join(' ') + '\n')
const oneLine = (error) => String(error?.message || error).split(/\s+/).join(' ')

class WrongBytes extends Error {}

// A stream, with how far each direction has come.
class Held {
  constructor (stream) {
    Object.assign(this, { stream, bytesRead: 0, bytesWritten: 0, left: new Uint8Array(0) })
  }

  async write (count) {
    const bytes = part(this.bytesWritten, count)
    this.bytesWritten += count
    await this.stream.write(bytes)
  }

  // Some bytes, and at most so many; none at end of file. Checks them.
  async some (most) {
    if (this.left.length === 0) this.left = (await this.stream.read()) ?? this.left
    const bytes = this.left.subarray(0, most)
    this.left = this.left.subarray(bytes.length)
    for (let at = 0; at < bytes.length; at += WINDOW) {
      const piece = bytes.subarray(at, at + WINDOW)
      if (Buffer.compare(piece, part(this.bytesRead + at, piece.length)) !== 0) throw new WrongBytes('wrong bytes')
    }
    this.bytesRead += bytes.length
    return bytes.length
  }

  async read (count) {
    while (count > 0) {
      const read = await this.some(count)
      if (read === 0) throw new Error(`end of file after ${this.bytesRead} bytes`)
      count -= read
    }
  }

  async end () {
    const begin = this.bytesRead
    try {
      while (await this.some(Infinity) > 0);
      return `eof ${this.bytesRead - begin}`
    } catch (error) {
      if (error instanceof WrongBytes) throw error
      return `error ${this.bytesRead - begin} ${oneLine(error)}`
    }
  }

  async flood () {
    for (let at = 0; at < 64 << 20; at += 4096) {
      try {
        await this.stream.write(part(0, 4096))
      } catch (error) {
        return `error ${at} ${oneLine(error)}`
      }
    }
    return 'no-error'
  }
}

function connect ({ dial, listen }) {
  const [host, port] = (dial ?? listen).split(':')
  return new Promise((resolve, reject) => {
    if (dial != null) {
      const socket = net.connect({ host, port: Number(port), noDelay: true }, () => resolve(socket)).on('error', reject)
      return
    }
    const server = net.createServer({ noDelay: true }, (socket) => {
      server.close()
      resolve(socket)
    })
    server.on('error', reject).listen(Number(port), host, () => say('listening', `${host}:${server.address().port}`))
  })
}

async function echo (stream) {
  stream.flow?.()
  try {
    for (let bytes = await stream.read(); bytes != null; bytes = await stream.read()) await stream.write(bytes)
    await stream.fin()
  } catch {}
}

async function echoOne (session, size) {
  const held = new Held(await session.open())
  const asks = held.write(size).then(() => held.stream.fin())
  const hears = held.read(size).then(() => held.end()).then((end) => {
    if (end !== 'eof 0') throw new Error(`${end} instead of end of file`)
  })
  await Promise.all([asks, hears])
}

async function echoes (session, count, atOnce, size, seconds) {
  let [left, done, lost, first, isOver] = [count, 0, 0, '', false]
  const fail = (why) => { first ||= why }
  const worker = async () => {
    while (left > 0 && !isOver) {
      left--
      try {
        await echoOne(session, size)
        done++
      } catch (error) {
        lost++
        fail(oneLine(error))
      }
    }
  }
  let timer
  const over = new Promise((resolve) => { timer = setTimeout(resolve, seconds * 1000) })
  await Promise.race([over, Promise.all(Array.from({ length: atOnce }, worker))])
  clearTimeout(timer)
  isOver = true
  if (done + lost < count) fail(`no end within ${seconds} s`)
  return `${done} ${count - done} ${first}`
}

const { values } = parseArgs({ options: { dial: { type: 'string' }, listen: { type: 'string' }, serve: { type: 'boolean' } } })
// Who started the program may be gone.
const nobody = setTimeout(() => process.exit(1), 30_000)
const socket = await connect(values)
clearTimeout(nobody)
const inbound = []
const takers = []
let serve = values.serve ?? false
const give = () => {
  while (inbound.length > 0 && (serve || takers.length > 0)) {
    const stream = inbound.shift()
    if (serve) echo(stream)
    else takers.shift()(stream)
  }
}
const session = start(socket, values.dial != null, (stream) => {
  inbound.push(stream)
  give()
})
socket.on('error', (error) => { socket.why = oneLine(error) })
socket.on('close', () => say('down', socket.why ?? 'the socket was closed'))
// What the library throws where nobody can catch it is told, and is no reason to end.
process.on('unhandledRejection', (error) => console.error('unhandled:', oneLine(error)))
say('up')

const streams = []
const hold = (stream) => streams.push(new Held(stream))

async function obey (verb, ...numbers) {
  const held = streams[numbers[0] - 1]
  switch (verb) {
    case 'serve':
      serve = true
      return give()
    case 'open': return hold(await session.open())
    case 'accept': return hold(await new Promise((resolve) => {
      takers.push(resolve)
      give()
    }))
    case 'write': return held.write(numbers[1])
    case 'read': return held.read(numbers[1])
    case 'end': return held.end()
    case 'flood': return held.flood()
    case 'fin': return held.stream.fin()
    case 'reset': return held.stream.reset()
    case 'echo': return echoes(session, ...numbers)
    case 'ping': {
      const begun = performance.now()
      await session.ping()
      return Math.round((performance.now() - begun) * 1000)
    }
    case 'go-away': return session.goAway()
    default: throw new Error(`\`${verb}\` is no order`)
  }
}

readline.createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [number, verb, ...words] = line.split(' ')
    obey(verb, ...words.map(Number)).then(
      (answer) => say(number, 'ok', answer ?? ''),
      (error) => say(number, 'fail', oneLine(error))
    )
  })
  .on('close', () => process.exit(0))
