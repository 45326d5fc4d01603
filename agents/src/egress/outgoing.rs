//! A request as it leaves: written anew from what was read.

use super::{
    http::{Body, Field, Request, Version},
    name::HostName,
    secret::SecretHeader,
};

/// What a client can read.
const ENCODING: &str = "Accept-Encoding";

/// The head of a request to `name` and `port`, with these secrets in place of fields of their names. The connection ends with the response, so that a client cannot send a
/// second request down a path that was judged for the first.
pub(super) fn head(
    request: &Request,
    path: &str,
    (name, port): (&HostName, u16),
    secrets: &[&SecretHeader],
) -> Vec<u8> {
    let version = match request.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    let mut head = Vec::with_capacity(512);
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| head.extend_from_slice(part));
        head.extend_from_slice(b"\r\n");
    };
    line(&[
        request.method.as_bytes(),
        b" ",
        path.as_bytes(),
        b" ",
        version.as_bytes(),
    ]);
    match port {
        super::allowlist::HTTP => line(&[b"Host: ", name.as_str().as_bytes()]),
        _ => line(&[format!("Host: {name}:{port}").as_bytes()]),
    }
    let replaced = |field: &Field| {
        let is = |name: &str| name.eq_ignore_ascii_case(&field.name);
        secrets
            .iter()
            .any(|secret| is(secret.name()) || is(ENCODING))
    };
    for field in request.fields.iter().filter(|field| !replaced(field)) {
        line(&[field.name.as_bytes(), b": ", &field.value]);
    }
    for secret in secrets {
        line(&[secret.name().as_bytes(), b": ", secret.value()]);
    }
    if !secrets.is_empty() {
        // What comes back compressed could not be looked through.
        line(&[ENCODING.as_bytes(), b": identity"]);
    }
    match request.body {
        Body::Length(0) if !request.states_length => {}
        Body::Length(length) => line(&[format!("Content-Length: {length}").as_bytes()]),
        Body::Chunked => line(&[b"Transfer-Encoding: chunked"]),
    }
    line(&[b"Connection: close"]);
    line(&[]);
    head
}
