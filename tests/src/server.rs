//! A loopback HTTP/1.1 server with faults on request, which counts what it is asked.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::archive::Files;

/// What goes wrong with an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// This status and no content.
    Status(u16),
    /// The right headers, then the connection closes after so many bytes of content.
    CutAfter(usize),
    /// `Range` is not honoured: the whole file with status 200.
    IgnoreRange,
    /// Content trickles: pieces of 1 KiB with this pause before each.
    Slow(Duration),
    /// Other bytes under the same name.
    Instead(Vec<u8>),
    /// Nothing is ever said.
    Silence,
}

#[derive(Debug)]
struct Rule {
    path_contains: String,
    fault: Fault,
    times: Option<u32>,
}

/// One request as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Path without the leading slash.
    pub path: String,
    /// First byte asked for, if a range was.
    pub from: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    files: Files,
    rules: Vec<Rule>,
    asked: Vec<Asked>,
    connections: u64,
    passing_on: bool,
}

/// A running server; dropping it closes the port and ends its threads.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves these files on a free port of 127.0.0.1.
    pub fn start(files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State {
            files,
            ..State::default()
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (state, stop) = (Arc::clone(&state), Arc::clone(&stop));
            std::thread::spawn(move || accept(&listener, &state, &stop))
        };
        Self {
            address,
            state,
            stop,
            acceptor: Some(acceptor),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves these files from now on.
    pub fn serve(&self, files: Files) {
        self.state().files = files;
    }

    /// Changes every file whose path contains this; panics if there is none.
    pub fn tamper(&self, path_contains: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.state();
        let mut found = false;
        for (path, bytes) in &mut state.files {
            if path.contains(path_contains) {
                change(bytes);
                found = true;
            }
        }
        assert!(found, "no file's path contains {path_contains:?}");
    }

    /// Answers every request whose path contains this wrongly, from now on.
    pub fn always(&self, path_contains: &str, fault: Fault) {
        self.rule(path_contains, fault, None);
    }

    /// Answers the next so many such requests wrongly.
    pub fn next(&self, times: u32, path_contains: &str, fault: Fault) {
        self.rule(path_contains, fault, Some(times));
    }

    fn rule(&self, path_contains: &str, fault: Fault, times: Option<u32>) {
        self.state().rules.push(Rule {
            path_contains: path_contains.to_owned(),
            fault,
            times,
        });
    }

    /// Fetches what it does not have from deb.debian.org: an archive of the test's own beside Debian's.
    pub fn pass_on(&self) {
        self.state().passing_on = true;
    }

    /// Answers rightly again.
    pub fn heal(&self) {
        self.state().rules.clear();
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// How many connections there were, whatever came over them.
    pub fn connections(&self) -> u64 {
        self.state().connections
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics holding it")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor, which then sees the flag.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>, stop: &Arc<AtomicBool>) {
    let mut workers: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        state.lock().expect("not poisoned").connections += 1;
        workers.retain(|worker| !worker.is_finished());
        let (state, stop) = (Arc::clone(state), Arc::clone(stop));
        // An error here is the client's going away, which tests do on purpose.
        workers.push(std::thread::spawn(move || {
            let _ = converse(&stream, &state, &stop);
        }));
    }
    for worker in workers {
        let _ = worker.join();
    }
}

/// Answers requests on one connection until either side is done.
fn converse(stream: &TcpStream, state: &Mutex<State>, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        match reader.read_line(&mut head) {
            Ok(0) => return Ok(()),
            Ok(_) if head.len() > 64 * 1024 => return Ok(()),
            Ok(_) if !head.ends_with("\r\n\r\n") => {}
            Ok(_) => {
                if !answer(stream, &head, state, stop)? {
                    return Ok(());
                }
                head.clear();
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                if stop.load(Ordering::SeqCst) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Answers one request; false when the connection is to close.
fn answer(
    mut stream: &TcpStream,
    head: &str,
    state: &Mutex<State>,
    stop: &AtomicBool,
) -> std::io::Result<bool> {
    let mut words = head.split_whitespace();
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    // A proxy client sends the whole address.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => target.trim_start_matches('/'),
    };
    let path = decode(path);
    let mut from = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let start = value.trim().strip_prefix("bytes=")?.split('-').next()?;
        name.eq_ignore_ascii_case("range")
            .then(|| start.parse::<u64>().ok())?
    });
    let (content, moved, fault, passing_on) = {
        let mut state = state.lock().expect("not poisoned");
        state.asked.push(Asked {
            path: path.clone(),
            from,
        });
        let fault = take_fault(&mut state.rules, &path);
        let content = state.files.get(&path).cloned();
        let moved = match content {
            None => nearest_snapshot(&state.files, &path),
            Some(_) => None,
        };
        (content, moved, fault, state.passing_on)
    };
    match &fault {
        Some(Fault::Silence) => {
            while !stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(50));
            }
            return Ok(false);
        }
        Some(Fault::Status(code)) => {
            write!(
                stream,
                "HTTP/1.1 {code} as the test asked\r\nContent-Length: 0\r\n\r\n"
            )?;
            return Ok(true);
        }
        _ => {}
    }
    if let Some(target) = moved {
        write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /{target}\r\nContent-Length: 0\r\n\r\n"
        )?;
        return Ok(true);
    }
    let content = match fault {
        Some(Fault::Instead(ref bytes)) => Some(bytes.clone()),
        _ if passing_on && content.is_none() => match from_debian(&path) {
            Some(answer) => answer,
            None => {
                write!(
                    stream,
                    "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
                )?;
                return Ok(true);
            }
        },
        _ => content,
    };
    let Some(content) = content else {
        write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        )?;
        return Ok(true);
    };
    if fault == Some(Fault::IgnoreRange) {
        from = None;
    }
    let total = content.len() as u64;
    let start = from.unwrap_or(0);
    if from.is_some() && start >= total {
        write!(
            stream,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n"
        )?;
        return Ok(true);
    }
    let part = &content[start as usize..];
    let status = match from {
        Some(_) => format!(
            "206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}",
            total - 1
        ),
        None => "200 OK".to_owned(),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n",
        part.len()
    )?;
    if method == "HEAD" {
        return Ok(true);
    }
    match fault {
        Some(Fault::CutAfter(length)) => {
            stream.write_all(&part[..length.min(part.len())])?;
            stream.shutdown(std::net::Shutdown::Write)?;
            // Unread bytes would turn the close into a reset, which may take the content back.
            let _ = stream.take(64 * 1024).read_to_end(&mut Vec::new());
            Ok(false)
        }
        Some(Fault::Slow(pause)) => {
            for piece in part.chunks(1024) {
                if stop.load(Ordering::SeqCst) {
                    return Ok(false);
                }
                std::thread::sleep(pause);
                stream.write_all(piece)?;
            }
            Ok(true)
        }
        _ => {
            stream.write_all(part)?;
            Ok(true)
        }
    }
}

/// Debian's answer for a path, `Some(None)` where it has no such file; `None` for whatever goes wrong on the way.
fn from_debian(path: &str) -> Option<Option<Vec<u8>>> {
    let mut stream = TcpStream::connect(("deb.debian.org", 80)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nHost: deb.debian.org\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let content = answer.split_off(end + 4);
    let head = String::from_utf8(answer).ok()?.to_ascii_lowercase();
    match head.split(' ').nth(1)? {
        "200" => {}
        "404" => return Some(None),
        _ => return None,
    }
    if head.contains("transfer-encoding: chunked") {
        return unchunked(&content).map(Some);
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    (length.is_none() || length == Some(content.len())).then_some(Some(content))
}

/// The content of a body in chunks (RFC 9112, 7.1); `None` if it is cut.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&body[..end]).ok()?;
        let length = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        if length == 0 {
            return Some(content);
        }
        content.extend_from_slice(body.get(end + 2..end + 2 + length)?);
        body = body.get(end + 2 + length + 2..)?;
    }
}

fn take_fault(rules: &mut [Rule], path: &str) -> Option<Fault> {
    let rule = rules
        .iter_mut()
        .find(|rule| path.contains(&rule.path_contains) && rule.times != Some(0))?;
    if let Some(times) = &mut rule.times {
        *times -= 1;
    }
    Some(rule.fault.clone())
}

/// Where snapshot.debian.org would redirect: a moment without an import means the last import before it.
fn nearest_snapshot(files: &Files, path: &str) -> Option<String> {
    let (area, rest) = path.strip_prefix("archive/")?.split_once('/')?;
    let (stamp, file) = rest.split_once('/')?;
    let prefix = format!("archive/{area}/");
    let nearest = files
        .range(prefix.clone()..)
        .map_while(|(path, _)| path.strip_prefix(&prefix)?.split('/').next())
        .take_while(|&known| known <= stamp)
        .last()?;
    (nearest != stamp).then(|| format!("{prefix}{nearest}/{file}"))
}

/// Percent decoding; clients spell `+` and `~` of versions in more than one way.
fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| path.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(server: &Server, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(
            stream,
            "GET /{path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n"
        )
        .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn serving(files: &[(&str, &str)]) -> Server {
        Server::start(
            files
                .iter()
                .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
                .collect(),
        )
    }

    /// Resumption is tested against this server, so its ranges must be right.
    #[test]
    fn ranges_faults_and_counts() {
        let server = serving(&[("a+b", "0123456789")]);
        assert!(get(&server, "a%2Bb", "Range: bytes=7-\r\n").ends_with("789"));
        server.next(1, "a+b", Fault::Status(500));
        assert!(get(&server, "a+b", "").starts_with("HTTP/1.1 500"));
        server.next(1, "a+b", Fault::CutAfter(4));
        assert!(get(&server, "a+b", "").ends_with("\r\n\r\n0123"));
        assert!(get(&server, "a+b", "").ends_with("0123456789"));
        assert_eq!(server.asked().len(), 4);
        assert_eq!(server.asked()[0].from, Some(7));
    }

    #[test]
    fn chunks_are_put_together() {
        let body = b"4\r\nwiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n";
        assert_eq!(unchunked(body).unwrap(), b"wikipedia");
        assert_eq!(unchunked(&body[..12]), None);
    }

    /// Tests of maintainer scripts stand on Debian's own base.
    #[test]
    fn what_is_debians_is_passed_on() {
        if !crate::requirement::debian_archive() {
            return;
        }
        let server = serving(&[("debian/dists/own/InRelease", "own")]);
        server.pass_on();
        assert!(get(&server, "debian/dists/own/InRelease", "").ends_with("own"));
        let text = get(&server, "debian/dists/trixie/InRelease", "");
        assert!(text.contains("Codename: trixie"), "{text}");
        let text = get(&server, "debian/dists/no-such-suite/InRelease", "");
        assert!(text.contains(" 404 "), "{text}");
    }

    #[test]
    fn a_moment_between_imports_leads_to_the_one_before() {
        let server = serving(&[
            ("archive/debian/20260101T000000Z/x", "old"),
            ("archive/debian/20260201T000000Z/x", "new"),
        ]);
        let text = get(&server, "archive/debian/20260115T120000Z/x", "");
        assert!(
            text.contains("Location: /archive/debian/20260101T000000Z/x"),
            "{text}"
        );
        assert!(get(&server, "archive/debian/20250101T000000Z/x", "").contains(" 404 "));
    }
}
