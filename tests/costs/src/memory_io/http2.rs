//! As much of HTTP/2 as a client needs that asks one thing, again and again: RFC 9113, with heads that
//! are always encoded alike, by RFC 7541's static table and literals that are not to be remembered.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The length of a frame's head.
const HEAD: usize = 9;
/// What makes the connection's window as large as it can be: more than is ever sent.
const WIDEST: u32 = (1 << 31) - 1 - 65_535;

/// The message of a call whose message is empty: not compressed, no bytes.
const EMPTY: &[u8] = &[0; 5];

/// What is asked.
#[derive(Clone, Copy)]
pub(super) enum Call {
    /// `GET /`
    Get,
    /// `grpc.health.v1.Health/Check`
    Health,
}

/// A client's side of a connection.
pub(super) struct Http2 {
    call: Call,
    head: Vec<u8>,
    stream: u32,
    /// The head of the frame that the server is writing, so far.
    frame: [u8; HEAD],
    seen: usize,
    /// How much of its payload is still to come.
    payload: usize,
    is_answered: bool,
}

impl Http2 {
    /// A new connection, whose first words are put `to` the server.
    pub(super) fn open(call: Call, to: &mut Vec<u8>) -> Self {
        to.extend_from_slice(PREFACE);
        frame(to, SETTINGS, 0, 0, &[]);
        frame(to, WINDOW_UPDATE, 0, 0, &WIDEST.to_be_bytes());
        Self {
            call,
            head: head(call),
            stream: 1,
            frame: [0; HEAD],
            seen: 0,
            payload: 0,
            is_answered: false,
        }
    }

    /// Asks, on a new stream.
    pub(super) fn ask(&mut self, to: &mut Vec<u8>) {
        match self.call {
            Call::Get => frame(
                to,
                HEADERS,
                END_HEADERS | END_STREAM,
                self.stream,
                &self.head,
            ),
            Call::Health => {
                frame(to, HEADERS, END_HEADERS, self.stream, &self.head);
                frame(to, DATA, END_STREAM, self.stream, EMPTY);
            }
        }
        self.stream += 2;
    }

    /// Hears what the server writes. True if that asked for something which is now `to` be read.
    pub(super) fn hear(&mut self, mut bytes: &[u8], to: &mut Vec<u8>) -> bool {
        let before = to.len();
        while !bytes.is_empty() {
            if self.seen < HEAD {
                let n = bytes.len().min(HEAD - self.seen);
                self.frame[self.seen..self.seen + n].copy_from_slice(&bytes[..n]);
                self.seen += n;
                bytes = &bytes[n..];
                if self.seen == HEAD {
                    let [a, b, c, ..] = self.frame;
                    self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
                }
            } else {
                let n = bytes.len().min(self.payload);
                self.payload -= n;
                bytes = &bytes[n..];
            }
            if self.seen == HEAD && self.payload == 0 {
                self.seen = 0;
                self.framed(to);
            }
        }
        to.len() > before
    }

    /// Whether an answer has ended, that nobody has taken notice of.
    pub(super) fn is_answered(&mut self) -> &mut bool {
        &mut self.is_answered
    }

    fn framed(&mut self, to: &mut Vec<u8>) {
        let [_, _, _, kind, flags, ..] = self.frame;
        match kind {
            DATA | HEADERS => self.is_answered |= flags & END_STREAM != 0,
            // There will be no other answer.
            RST_STREAM | GOAWAY => self.is_answered = true,
            SETTINGS if flags & ACK == 0 => frame(to, SETTINGS, ACK, 0, &[]),
            // Not asked for by any server here before it drains; what it would have to be answered
            // with has not been kept.
            PING => debug_assert!(flags & ACK != 0, "a ping while nothing drains"),
            _ => {}
        }
    }
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    to.extend_from_slice(&[a, b, c, kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// The encoded head of a request.
fn head(call: Call) -> Vec<u8> {
    // Of the static table: `:method`, `:scheme: http`, `:path: /`.
    const GET: u8 = 0x82;
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    const ROOT: u8 = 0x84;
    // And names: `:authority`, `:path`, `user-agent`, `accept`, `content-type`.
    const AUTHORITY: &[u8] = &[0x01];
    const PATH: &[u8] = &[0x04];
    const USER_AGENT: &[u8] = &[0x0f, 58 - 15];
    const ACCEPT: &[u8] = &[0x0f, 19 - 15];
    const CONTENT_TYPE: &[u8] = &[0x0f, 31 - 15];

    let mut head = match call {
        Call::Get => vec![GET, HTTP, ROOT],
        Call::Health => vec![POST, HTTP],
    };
    let mut field = |name: &[u8], value: &str| {
        head.extend_from_slice(name);
        // All are shorter than what one byte tells.
        head.push(value.len() as u8);
        head.extend_from_slice(value.as_bytes());
    };
    // Those with a colon come first.
    field(AUTHORITY, "localhost");
    if let Call::Health = call {
        field(PATH, "/grpc.health.v1.Health/Check");
    }
    field(USER_AGENT, "costs");
    match call {
        Call::Get => field(ACCEPT, "*/*"),
        Call::Health => {
            field(CONTENT_TYPE, "application/grpc");
            field(b"\0\x02te", "trailers");
        }
    }
    head
}
