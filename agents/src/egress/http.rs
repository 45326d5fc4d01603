//! Requests of HTTP/1, read strictly.
//!
//! A request that two readers could take for two different things is refused (RFC 9112, sections 3.2, 5.2, 6.1 and 11.2):
//! what is forwarded is written anew from the parts read here, so the server sees no byte whose meaning was not settled.

use super::{
    allowlist::{HTTP, port_number},
    name::{HostName, NameError},
    refusal::quoted,
};

/// The most fields of a request.
const MOST_FIELDS: usize = 100;
/// The longest method, in bytes.
const LONGEST_METHOD: usize = 32;

/// Why a request is not forwarded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RequestError {
    /// The end of the head is not in sight.
    #[error("its head is longer than {0} bytes")]
    Long(usize),
    /// More than a hundred fields.
    #[error("it has more than {MOST_FIELDS} fields")]
    Fields,
    /// The client closed the connection.
    #[error("it ends in mid-head")]
    Cut,
    /// A line feed without a carriage return, or the other way round.
    #[error("a line does not end in CR LF")]
    LineEnd,
    /// NUL and its kin.
    #[error("it holds a control character")]
    Control,
    /// Not `METHOD target HTTP/1.x`.
    #[error("its first line is not a method, a target and a version with one space between")]
    RequestLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("its version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    /// Not `name: value`.
    #[error("a field is not a name, a colon and a value")]
    Field,
    /// A line that continues the one before.
    #[error("a field is folded over several lines")]
    Folded,
    /// Not what its method and place ask for.
    #[error("its target is not of the form that is expected here: {0}")]
    Target(&'static str),
    /// A user's name or password in the target.
    #[error("its target holds a user's name")]
    UserInformation,
    /// Not `name` or `name:port`.
    #[error("{0} is no port between 1 and 65535")]
    Port(String),
    /// Not a host name; `Refusal::Name` says it better.
    #[error("{0} is no host name: {1}")]
    Name(String, NameError),
    /// No `Host`, or two.
    #[error("it has not exactly one Host field")]
    Host,
    /// `Host` is not what the target says.
    #[error("its Host field {0} is not the host of its target")]
    HostDiffers(String),
    /// `Content-Length` twice, with a sign, as a list, or beside `Transfer-Encoding`.
    #[error("the length of its body is not stated once and plainly")]
    Length,
    /// Anything but `chunked`.
    #[error("its Transfer-Encoding is not \"chunked\"")]
    TransferEncoding,
    /// `Connection: host`, say.
    #[error("its Connection field takes away a field that has to arrive")]
    Connection,
}

/// The two versions that are spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How the end of the body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    /// So many bytes; none is zero.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A host and a port, the latter where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Authority {
    pub(super) name: HostName,
    pub(super) port: Option<u16>,
}

/// What a request is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// `CONNECT name:port`
    Tunnel(Authority),
    /// `GET http://name:port/path`, with the path
    Absolute(Authority, String),
    /// `GET /path`
    Origin(String),
}

/// One field, in the order and spelling of the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Vec<u8>,
}

impl Field {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The head of a request, unambiguous.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: Target,
    pub(super) version: Version,
    /// All fields but `Host`, `Content-Length` and those that concern only the way to the proxy.
    pub(super) fields: Vec<Field>,
    pub(super) host: Option<Authority>,
    pub(super) body: Body,
    /// Whether it had a `Content-Length`, zero included.
    pub(super) states_length: bool,
}

/// Where the head ends in `buffer`: the index after its empty line. `from` is where an earlier look at the same bytes
/// stopped, less three; `None` where more bytes are needed.
pub(super) fn end_of_head(
    buffer: &[u8],
    from: usize,
    longest: usize,
) -> Result<Option<usize>, RequestError> {
    let found = buffer
        .get(from..)
        .unwrap_or_default()
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| from + at + 4);
    match found {
        Some(end) if end <= longest => Ok(Some(end)),
        None if buffer.len() < longest => Ok(None),
        _ => Err(RequestError::Long(longest)),
    }
}

impl Request {
    /// Reads a head: everything up to and including the empty line.
    pub(super) fn parse(head: &[u8]) -> Result<Self, RequestError> {
        let mut lines = lines(head)?.into_iter();
        let line = lines.next().ok_or(RequestError::RequestLine)?;
        let (method, target, version) = request_line(line)?;
        let mut fields = Vec::new();
        for line in lines {
            if fields.len() == MOST_FIELDS {
                return Err(RequestError::Fields);
            }
            fields.push(field(line)?);
        }
        let host = host(&fields)?;
        let body = body(&fields, version)?;
        match &target {
            Target::Tunnel(_) if body != Body::Length(0) => return Err(RequestError::Length),
            // Some clients leave the port away here (and only here: there is no default to compare with).
            Target::Tunnel(wanted) => same_host(wanted, host.as_ref(), wanted.port)?,
            Target::Absolute(wanted, _) => same_host(wanted, host.as_ref(), Some(HTTP))?,
            Target::Origin(_) => {}
        }
        if host.is_none() && version == Version::Http11 {
            return Err(RequestError::Host);
        }
        let states_length = fields.iter().any(|field| field.is("Content-Length"));
        let fields = without_hop_by_hop(fields)?;
        Ok(Self {
            method: method.to_owned(),
            target,
            version,
            fields,
            host,
            body,
            states_length,
        })
    }
}

/// The lines of a head without their ends; the empty last one is left out.
fn lines(head: &[u8]) -> Result<Vec<&[u8]>, RequestError> {
    let Some(head) = head.strip_suffix(b"\r\n\r\n") else {
        return Err(RequestError::Cut);
    };
    let mut lines = Vec::new();
    let mut rest = head;
    loop {
        let end = rest
            .iter()
            .position(|&byte| matches!(byte, 0..=8 | 10..=31 | 127))
            .unwrap_or(rest.len());
        lines.push(&rest[..end]);
        match &rest[end..] {
            [] => return Ok(lines),
            [b'\r', b'\n', tail @ ..] => rest = tail,
            [b'\r' | b'\n', ..] => return Err(RequestError::LineEnd),
            _ => return Err(RequestError::Control),
        }
    }
}

/// Whether this may be part of a method or a field's name (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn request_line(line: &[u8]) -> Result<(&str, Target, Version), RequestError> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(RequestError::RequestLine);
    };
    if !is_token(method) || method.len() > LONGEST_METHOD {
        return Err(RequestError::RequestLine);
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(RequestError::RequestLine);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err(RequestError::Version),
    };
    // Both are ASCII.
    let (Ok(method), Ok(target)) = (str::from_utf8(method), str::from_utf8(target)) else {
        return Err(RequestError::RequestLine);
    };
    let target = if method == "CONNECT" {
        let authority = authority(target.as_bytes())?;
        if authority.port.is_none() {
            return Err(RequestError::Target("CONNECT needs a name and a port"));
        }
        Target::Tunnel(authority)
    } else {
        request_target(method, target)?
    };
    Ok((method, target, version))
}

fn request_target(method: &str, target: &str) -> Result<Target, RequestError> {
    if target.contains('#') {
        return Err(RequestError::Target("it has a fragment"));
    }
    if target.starts_with('/') {
        return Ok(Target::Origin(target.to_owned()));
    }
    if target == "*" {
        return match method {
            "OPTIONS" => Ok(Target::Origin(target.to_owned())),
            _ => Err(RequestError::Target("\"*\" is for OPTIONS alone")),
        };
    }
    let scheme = target.get(..7).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("http://") {
        return Err(RequestError::Target(
            "only http:// URLs are forwarded; for https:// ask for a tunnel with CONNECT",
        ));
    }
    let rest = &target[7..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = match path {
        "" if method == "OPTIONS" => "*".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    Ok(Target::Absolute(authority(host.as_bytes())?, path))
}

/// `name` or `name:port`.
fn authority(text: &[u8]) -> Result<Authority, RequestError> {
    if text.contains(&b'@') {
        return Err(RequestError::UserInformation);
    }
    let unnamed = |problem| RequestError::Name(quoted(text), problem);
    if text.contains(&b'/') {
        return Err(unnamed(NameError::Character('/')));
    }
    let (name, port) = match text.iter().position(|&byte| byte == b':') {
        None => (text, None),
        Some(at) => {
            let digits = &text[at + 1..];
            if text.starts_with(b"[") || digits.contains(&b':') {
                return Err(unnamed(NameError::Address));
            }
            let port = port_number(digits).ok_or_else(|| RequestError::Port(quoted(digits)))?;
            (&text[..at], Some(port))
        }
    };
    let name = HostName::from_wire(name).map_err(unnamed)?;
    Ok(Authority { name, port })
}

fn field(line: &[u8]) -> Result<Field, RequestError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(RequestError::Folded);
    }
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or(RequestError::Field)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(RequestError::Field);
    }
    let name = str::from_utf8(name).map_err(|_| RequestError::Field)?;
    Ok(Field {
        name: name.to_owned(),
        value: value.trim_ascii().to_vec(),
    })
}

fn host(fields: &[Field]) -> Result<Option<Authority>, RequestError> {
    let mut hosts = fields.iter().filter(|field| field.is("Host"));
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => authority(&host.value).map(Some),
        (Some(_), Some(_)) => Err(RequestError::Host),
    }
}

/// Whether a `Host` field says what the target says; `default` is the port that it means when it names none.
fn same_host(
    wanted: &Authority,
    host: Option<&Authority>,
    default: Option<u16>,
) -> Result<(), RequestError> {
    let Some(host) = host else { return Ok(()) };
    let same = host.name == wanted.name && host.port.or(default) == wanted.port.or(default);
    if same {
        Ok(())
    } else {
        Err(RequestError::HostDiffers(host.to_string()))
    }
}

impl Authority {
    /// Whether it is this name and port, where no port means that of plain HTTP.
    pub(super) fn is(&self, name: &HostName, port: u16) -> bool {
        self.name == *name && self.port.unwrap_or(HTTP) == port
    }
}

impl std::fmt::Display for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

fn body(fields: &[Field], version: Version) -> Result<Body, RequestError> {
    let all = |name: &'static str| fields.iter().filter(move |field| field.is(name));
    let mut lengths = all("Content-Length");
    let mut encodings = all("Transfer-Encoding");
    let (length, encoding) = (lengths.next(), encodings.next());
    if lengths.next().is_some() || encodings.next().is_some() {
        return Err(RequestError::Length);
    }
    match (length, encoding) {
        (None, None) => Ok(Body::Length(0)),
        (Some(_), Some(_)) => Err(RequestError::Length),
        (None, Some(_)) if version == Version::Http10 => Err(RequestError::TransferEncoding),
        (None, Some(encoding)) if encoding.value.eq_ignore_ascii_case(b"chunked") => {
            Ok(Body::Chunked)
        }
        (None, Some(_)) => Err(RequestError::TransferEncoding),
        (Some(length), None) => {
            let digits = &length.value;
            if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
                return Err(RequestError::Length);
            }
            let length = str::from_utf8(digits)
                .ok()
                .and_then(|text| text.parse().ok());
            length.map(Body::Length).ok_or(RequestError::Length)
        }
    }
}

/// Fields that concern only the way to the next machine (RFC 9110, section 7.6.1), and those that are written anew.
const OWN: [&str; 13] = [
    "Connection",
    "Proxy-Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "HTTP2-Settings",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Host",
    "Content-Length",
];
/// Whether a field of this name never comes from a client's list of fields.
pub(super) fn is_own(name: &str) -> bool {
    OWN.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// What `Connection` may not take away, for then two readers would differ about the request.
const KEPT: [&str; 3] = ["Host", "Content-Length", "Transfer-Encoding"];

fn without_hop_by_hop(fields: Vec<Field>) -> Result<Vec<Field>, RequestError> {
    let mut named = Vec::new();
    for field in fields.iter().filter(|field| field.is("Connection")) {
        for option in field.value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.is_empty() {
                continue;
            }
            if !is_token(option) {
                return Err(RequestError::Connection);
            }
            if KEPT
                .iter()
                .any(|kept| option.eq_ignore_ascii_case(kept.as_bytes()))
            {
                return Err(RequestError::Connection);
            }
            named.push(option.to_vec());
        }
    }
    let passes = |field: &Field| {
        !is_own(&field.name)
            && !named
                .iter()
                .any(|option| option.eq_ignore_ascii_case(field.name.as_bytes()))
    };
    Ok(fields.into_iter().filter(passes).collect())
}
