// @chainsafe/libp2p-yamux 7: streams have a source to iterate and a sink to be given one.
import { yamux } from '@chainsafe/libp2p-yamux'

const log = Object.assign(() => {}, { trace () {}, error: console.error, enabled: false, newScope: () => log })
const factory = yamux()({ logger: { forComponent: () => log } })

export function start (socket, isClient, onStream) {
  const muxer = factory.createStreamMuxer({
    direction: isClient ? 'outbound' : 'inbound',
    onIncomingStream: (stream) => onStream(adapt(stream))
  })
  muxer.sink(socket).catch(() => {})
  send(muxer.source, socket).catch(() => socket.destroy())
  return {
    open: async () => adapt(await muxer.newStream()),
    ping: () => muxer.ping(),
    goAway: () => muxer.close()
  }
}

async function send (source, socket) {
  for await (const bytes of source) {
    if (!socket.write(bytes.subarray())) await new Promise((resolve) => socket.once('drain', resolve).once('close', resolve))
  }
  socket.end()
}

function adapt (stream) {
  const source = stream.source[Symbol.asyncIterator]()
  // What the sink is to send: each item with what tells that it was sent.
  const items = []
  let wake = () => {}
  let failure
  async function * feed () {
    for (;;) {
      while (items.length === 0) await new Promise((resolve) => { wake = resolve })
      const { bytes, sent } = items[0]
      if (bytes == null) return
      yield bytes
      items.shift()
      sent.resolve()
    }
  }
  const ended = (error) => {
    failure = error ?? new Error('the stream takes no more bytes')
    for (const { bytes, sent } of items) bytes == null && error == null ? sent.resolve() : sent.reject(failure)
    items.length = 0
  }
  stream.sink(feed()).then(() => ended(), ended)
  const put = (bytes) => new Promise((resolve, reject) => {
    if (failure != null) return reject(failure)
    items.push({ bytes, sent: { resolve, reject } })
    wake()
  })
  return {
    async read () {
      for (;;) {
        const { done, value } = await source.next()
        if (done) return undefined
        // A frame may carry a flag and no bytes.
        if (value.byteLength > 0) return value.subarray()
      }
    },
    write: (bytes) => put(bytes),
    fin: () => put(undefined),
    async reset () { stream.abort(new Error('the stream was reset on this side')) }
  }
}
