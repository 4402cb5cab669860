// One websocket, reconnected until the server says no; frames unpacked.

const FULL = 4429, BROKEN = 4500;

/** Unpack a frame: uint32 length of the JSON, the JSON, then raw pictures in its order. */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const frame = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const pictures = {};
  for (const { name, height, width, channels } of frame.pictures) {
    const size = height * width * channels;
    pictures[name] = { height, width, channels, bytes: new Uint8Array(buffer, at, size) };
    at += size;
  }
  return { ...frame, pictures };
}

/**
 * Talks to one simulation of the server.
 * listener: { hello(message, again), frame(frame), error(text, final), state(name, text) }
 */
export class Connection {
  constructor(listener) {
    this.listener = listener;
    this.closed = false;
    this.met = false;
    this.wait = 500;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.refused = false;
    const url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`;
    const socket = this.socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        this.send({ type: "ack" });
        this.listener.state("live", "live");
        return this.listener.frame(unpack(data));
      }
      const message = JSON.parse(data);
      if (message.type === "error") {
        this.refused = this.refused || Boolean(message.final);
        this.listener.error(message.text, Boolean(message.final));
      } else if (message.type === "loading") {
        this.listener.state("loading", `loading ${message.what}`);
      } else if (message.type === "hello") {
        this.wait = 500;
        this.listener.hello(message, this.fresh);
        this.fresh = false;
        this.met = true;
      }
    };
    this.fresh = true;
    socket.onclose = ({ code }) => {
      if (this.closed || socket !== this.socket) return;
      if (this.refused || code === FULL || code === BROKEN) {
        this.listener.state("lost", "not connected");
        return;
      }
      const seconds = Math.max(1, Math.round(this.wait / 1000));
      this.listener.state("lost", this.met
        ? `connection lost: the server does not answer; trying again every ${seconds} s`
        : "the server does not answer; trying again");
      this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 1.6, 5000);
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}
