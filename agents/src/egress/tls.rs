//! The ClientHello: which host a TLS client asks for (RFC 8446, section 4.1.2; RFC 6066, section 3).
//!
//! TLS is not ended here, so this is all of a connection that can be held against the network list. A client may spread
//! the message over records and segments as it likes; it is put together up to a bound, and passed on as it came.
//!
//! An encrypted ClientHello (RFC 9849) hides a second name. Browsers send a meaningless one with every connection, so its
//! presence is no reason to refuse; the outer name, which says whose server may decrypt it, has to be the one allowed.

/// The content type of a record that carries handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
/// The longest fragment of a plain record.
const LONGEST_FRAGMENT: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// A fatal alert "access_denied" in a record of its own (RFC 8446, section 6), for a client that asked for the wrong host.
pub(super) const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Why what a client sent first is no ClientHello that is let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    /// Not a handshake record of TLS.
    #[error("it is not a TLS handshake record")]
    Record,
    /// A handshake message of another kind.
    #[error("it is not a ClientHello")]
    NotHello,
    /// Its lengths do not add up.
    #[error("its lengths contradict each other")]
    Malformed,
    /// Longer than any client's.
    #[error("it is longer than {0} bytes")]
    Long(usize),
    /// Something follows in the same record.
    #[error("something follows it in its record")]
    Followed,
    /// The same extension twice.
    #[error("it carries an extension twice")]
    Twice,
    /// The client closed the connection.
    #[error("it ends in the middle")]
    Cut,
}

/// What matters of a ClientHello.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hello {
    /// The server name indication as sent.
    pub(super) server_name: Option<Vec<u8>>,
}

/// Puts a ClientHello together from records.
#[derive(Debug)]
pub(super) struct HelloReader {
    longest: usize,
    /// How many bytes of the stream are taken in; always at the start of a record.
    taken: usize,
    message: Vec<u8>,
}

impl HelloReader {
    /// For a stream of which at most `longest` bytes are looked at.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            longest,
            taken: 0,
            message: Vec::new(),
        }
    }

    /// Looks at `stream`, everything that was received so far from its beginning. `None` where more is needed.
    pub(super) fn read(&mut self, stream: &[u8]) -> Result<Option<Hello>, HelloError> {
        loop {
            let rest = stream.get(self.taken..).unwrap_or_default();
            let Some((fragment, size)) = record(rest)? else {
                return if stream.len() < self.longest {
                    Ok(None)
                } else {
                    Err(HelloError::Long(self.longest))
                };
            };
            self.taken += size;
            self.message.extend_from_slice(fragment);
            if self.taken > self.longest {
                return Err(HelloError::Long(self.longest));
            }
            if self.message[0] != CLIENT_HELLO {
                return Err(HelloError::NotHello);
            }
            let Some(&[a, b, c]) = self.message.get(1..4) else {
                continue;
            };
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            match self.message.len().cmp(&(4 + length)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return parse(&self.message[4..]).map(Some),
                std::cmp::Ordering::Greater => return Err(HelloError::Followed),
            }
        }
    }
}

/// The first record's fragment and the record's size; `None` where it is not all there.
fn record(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, HelloError> {
    let wrong = matches!(bytes, [kind, ..] if *kind != HANDSHAKE)
        || matches!(bytes, [_, major, ..] if *major != 3)
        || matches!(bytes, [_, _, minor, ..] if *minor > 4);
    if wrong {
        return Err(HelloError::Record);
    }
    let &[_, _, _, high, low, ..] = bytes else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length == 0 || length > LONGEST_FRAGMENT {
        return Err(HelloError::Record);
    }
    let size = 5 + length;
    Ok(bytes.get(5..size).map(|fragment| (fragment, size)))
}

/// Takes what is there from the front, and nothing beyond its end.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, width: usize) -> Result<usize, HelloError> {
        let bytes = self.bytes(width)?;
        Ok(bytes
            .iter()
            .fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// A vector whose length stands before it in `width` bytes.
    fn vector(&mut self, width: usize) -> Result<&'a [u8], HelloError> {
        let length = self.number(width)?;
        self.bytes(length)
    }
}

fn parse(message: &[u8]) -> Result<Hello, HelloError> {
    let mut cursor = Cursor(message);
    let _version_and_random = cursor.bytes(2 + 32)?;
    let session = cursor.vector(1)?;
    let suites = cursor.vector(2)?;
    let compressions = cursor.vector(1)?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut server_name = None;
    if cursor.0.is_empty() {
        return Ok(Hello { server_name });
    }
    let mut extensions = Cursor(cursor.vector(2)?);
    if !cursor.0.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut seen = std::collections::BTreeSet::new();
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        if !seen.insert(kind) {
            return Err(HelloError::Twice);
        }
        if kind == usize::from(SERVER_NAME) {
            server_name = Some(server_name_of(content)?.to_vec());
        }
    }
    Ok(Hello { server_name })
}

/// The one host name of a server name list; nobody sends more, and servers differ about which they would take.
fn server_name_of(content: &[u8]) -> Result<&[u8], HelloError> {
    let mut content = Cursor(content);
    let mut list = Cursor(content.vector(2)?);
    let kind = list.number(1)?;
    let name = list.vector(2)?;
    if kind != usize::from(HOST_NAME)
        || name.is_empty()
        || !list.0.is_empty()
        || !content.0.is_empty()
    {
        return Err(HelloError::Malformed);
    }
    Ok(name)
}
