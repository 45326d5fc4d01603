//! Whatever bytes arrive, and in whatever pieces: no parser fails to return, none reads what is not its own.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::egress::{
    chunks::Chunks,
    http::{Request, end_of_head},
    socks,
    tls::{Hello, HelloReader},
};

/// Bytes that look like requests often enough to get past the first checks.
fn almost_http() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "GET ",
        "CONNECT ",
        "http://",
        "a.example.org",
        ":80",
        ":",
        "/",
        " HTTP/1.1",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "Host: ",
        "Content-Length: ",
        "Transfer-Encoding: chunked",
        "5",
        "0",
        " ",
        "\0",
        "@",
        "Connection: ",
        ",",
        "é",
        "*",
    ]);
    vec(words, 0..24).prop_map(|words| words.concat().into_bytes())
}

/// Reads a stream that arrives in pieces.
fn hello_in_pieces(stream: &[u8], sizes: &[usize]) -> Result<Option<Hello>, HelloError> {
    let mut reader = HelloReader::new(32 << 10);
    let mut there = 0;
    for size in sizes.iter().cycle() {
        there = stream.len().min(there + size.max(&1));
        match reader.read(&stream[..there]) {
            Ok(None) if there < stream.len() => {}
            result => return result,
        }
    }
    Ok(None)
}

/// Hellos with a few bytes changed.
fn almost_hello() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (1_usize..200, changes).prop_map(|(size, changes)| {
        let message = hello_message(&[(10, vec![1, 2]), server_names(&["a.example.org"])]);
        let mut bytes = records(&message, size);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// What a client makes us keep has a bound, however it is cut up.
#[test]
fn a_hello_is_read_up_to_its_bound() {
    let message = hello_message(&[server_names(&["a.example.org"])]);
    for size in [1, 7, 1000] {
        let stream = records(&message, size);
        let exactly = HelloReader::new(stream.len()).read(&stream);
        assert!(matches!(exactly, Ok(Some(_))), "{exactly:?}");
        let longest = stream.len() - 1;
        let beyond = HelloReader::new(longest).read(&stream);
        assert_eq!(beyond, Err(HelloError::Long(longest)));
    }
}

proptest! {
    #[test]
    fn names(text in "\\PC*", bytes in vec(any::<u8>(), 0..80)) {
        for name in [text.parse::<HostName>(), HostName::from_wire(&bytes)].into_iter().flatten() {
            // A name is its own normal form, and nothing that a resolver takes for an address.
            prop_assert_eq!(name.as_str().parse(), Ok(name.clone()));
            prop_assert!(name.as_str().parse::<IpAddr>().is_err());
            prop_assert!(name.as_str().is_ascii() && name.as_str().len() <= 253);
        }
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn rules(text in "(\\*\\.)?[a-z0-9.-]{0,12}(:[0-9]{0,6})?(/tcp)?") {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule.clone()));
            prop_assert!(rule.covers(&rule));
        }
    }

    #[test]
    fn heads(bytes in prop_oneof![almost_http(), vec(any::<u8>(), 0..300)], rest in vec(any::<u8>(), 0..50)) {
        let whole = [&bytes[..], b"\r\n\r\n", &rest].concat();
        let end = end_of_head(&whole, 0, 4096).unwrap().expect("an end");
        // Where the head ends does not depend on the pieces in which it comes, nor on what follows.
        prop_assert_eq!(end_of_head(&whole[..end], 0, 4096), Ok(Some(end)));
        prop_assert_eq!(end_of_head(&whole, end - 4, 4096), Ok(Some(end)));
        if let Ok(request) = Request::parse(&whole[..end]) {
            let to = "a.example.org".parse().unwrap();
            let head = outgoing::head(&request, "/", (&to, 80), &[]);
            // What leaves is one head that reads the same again.
            prop_assert_eq!(end_of_head(&head, 0, 8192), Ok(Some(head.len())));
            let again = Request::parse(&head).unwrap();
            prop_assert_eq!(again.body, request.body);
            prop_assert_eq!(again.host.map(|host| host.name), Some(to));
        }
    }

    #[test]
    fn hellos(bytes in prop_oneof![almost_hello(), vec(any::<u8>(), 1..300)], sizes in vec(1_usize..40, 1..5), rest in vec(any::<u8>(), 0..50)) {
        let whole = hello_in_pieces(&bytes, &[bytes.len()]);
        prop_assert_eq!(hello_in_pieces(&bytes, &sizes), whole.clone());
        if let Ok(Some(hello)) = whole {
            // What follows the message changes nothing.
            let more = [bytes, rest].concat();
            prop_assert_eq!(hello_in_pieces(&more, &[more.len()]), Ok(Some(hello)));
        }
    }

    #[test]
    fn socks_messages(bytes in vec(any::<u8>(), 0..300), start in prop::sample::select(vec![vec![], vec![5], vec![5, 1, 0, 3]])) {
        let bytes = [start, bytes].concat();
        if let Ok(Some(length)) = socks::parse_methods(&bytes) {
            prop_assert!(length <= bytes.len());
            prop_assert_eq!(socks::parse_methods(&bytes[..length]), Ok(Some(length)));
            prop_assert_eq!(socks::parse_methods(&bytes[..length - 1]), Ok(None));
        }
        if let Ok(Some((request, length))) = socks::parse_request(&bytes) {
            prop_assert!(length <= bytes.len());
            prop_assert_eq!(socks::parse_request(&bytes[..length]), Ok(Some((request, length))));
            prop_assert_eq!(socks::parse_request(&bytes[..length - 1]), Ok(None));
        }
    }

    #[test]
    fn chunked_bodies(chunks in vec(vec(any::<u8>(), 1..40), 0..5), rest in vec(any::<u8>(), 0..40), sizes in vec(1_usize..20, 1..5)) {
        let mut body = Vec::new();
        for chunk in &chunks {
            body.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n\r\n");
        let stream = [&body[..], &rest].concat();
        let (mut follower, mut taken) = (Chunks::new(), 0);
        for size in sizes.iter().cycle() {
            let end = stream.len().min(taken + size);
            taken += follower.follow(&stream[taken..end]).unwrap();
            if follower.is_done() {
                break;
            }
        }
        prop_assert_eq!(taken, body.len());
        // Noise ends in an error or waits for more, and is never longer than it is.
        if let Ok(taken) = Chunks::new().follow(&rest) {
            prop_assert!(taken <= rest.len());
        }
    }
}
