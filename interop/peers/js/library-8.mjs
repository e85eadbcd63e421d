// @chainsafe/libp2p-yamux 8: connections and streams are emitters of messages.
import { AbstractMultiaddrConnection } from '@libp2p/utils'

// The library was written for a Node.js that has it.
Promise.withResolvers ??= () => {
  const resolvers = {}
  resolvers.promise = new Promise((resolve, reject) => Object.assign(resolvers, { resolve, reject }))
  return resolvers
}

const { yamux } = await import('@chainsafe/libp2p-yamux')
const log = Object.assign(() => {}, { trace () {}, error: console.error, enabled: false, newScope: () => log })

class Connection extends AbstractMultiaddrConnection {
  constructor (socket, isClient) {
    super({ log, direction: isClient ? 'outbound' : 'inbound', remoteAddr: undefined })
    this.socket = socket
      .on('data', (bytes) => this.onData(bytes))
      .on('drain', () => this.safeDispatchEvent('drain'))
      .on('end', () => this.onRemoteCloseWrite())
      .on('close', () => this.onTransportClosed())
  }

  sendData (bytes) {
    return { sentBytes: bytes.byteLength, canSendMore: this.socket.write(bytes.subarray()) }
  }

  async sendClose () { this.socket.end() }
  sendReset () { this.socket.resetAndDestroy() }
  sendPause () { this.socket.pause() }
  sendResume () { this.socket.resume() }
}

export function start (socket, isClient, onStream) {
  const connection = new Connection(socket, isClient)
  const muxer = yamux()().createStreamMuxer(connection)
  muxer.addEventListener('stream', ({ detail }) => onStream(adapt(detail)))
  return {
    open: async () => adapt(await muxer.createStream()),
    ping: () => muxer.ping(),
    goAway: () => muxer.close()
  }
}

function adapt (stream) {
  const arrived = []
  let end
  let wake = () => {}
  let [isWanted, isFlowing] = [false, false]
  const finish = (error) => {
    end ??= { error }
    wake()
  }
  stream.addEventListener('message', ({ data }) => {
    arrived.push(data.subarray())
    wake()
    // Not in this turn: the library acknowledges a stream after it has told of its bytes, and not when it is paused.
    setImmediate(() => {
      if (!isWanted && !isFlowing && stream.readStatus === 'readable' && stream.status === 'open') stream.pause()
    })
  })
  stream.addEventListener('end', () => {
    const isCut = stream.status === 'reset' || stream.status === 'aborted'
    finish(isCut ? new Error(`the stream is ${stream.status}`) : undefined)
  })
  // A stream that closed well may hold bytes back that came while it was paused: 'end' follows them.
  stream.addEventListener('close', ({ error }) => {
    if (error != null || stream.readBufferLength === 0) finish(error)
    wake()
  })
  return {
    // From now on it is never paused, as it is not in the library's own iterator. The library gives credit up to 16 MiB, and
    // resets a stream that holds 4 MiB when it is paused.
    flow () { isFlowing = true },
    async read () {
      while (arrived.length === 0 && end == null) {
        isWanted = true
        const news = new Promise((resolve) => { wake = resolve })
        if (stream.readStatus === 'paused') stream.resume()
        if (arrived.length === 0 && end == null) await news
      }
      isWanted = false
      if (arrived.length > 0) return arrived.shift()
      if (end.error != null) throw end.error
    },
    async write (bytes) {
      stream.send(bytes)
      while (stream.writeBufferLength > 0) {
        if (stream.status !== 'open') throw new Error(`the stream is ${stream.status}`)
        await new Promise((resolve) => {
          stream.addEventListener('idle', resolve, { once: true })
          stream.addEventListener('close', resolve, { once: true })
        })
      }
    },
    fin: () => stream.close(),
    async reset () { stream.abort(new Error('the stream was reset on this side')) }
  }
}
