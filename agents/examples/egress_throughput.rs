//! How fast a download through the proxy is beside a direct one, over loopback: the median of interleaved rounds.
//!
//! `cargo run --release -p envd-agents --example egress_throughput [MEGABYTES [ROUNDS]]`

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::Arc,
    time::Instant,
};

use envd_agents::egress::{Allowlist, Egress, Event, HostName, Limits, Reach, Resolver, Resolving};
use tokio_util::sync::CancellationToken;

/// Everything is here.
struct Here;

impl Resolver for Here {
    fn resolve<'a>(&'a self, _: &'a HostName) -> Resolving<'a> {
        Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (size, rounds) = (number(2000)? << 20, number(5)?);
    let server = serve(size)?;
    let proxy = proxy(server.port())?;
    let to = format!("big.example.org:{}", server.port());
    let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let by_url = request.replacen('/', &format!("http://{to}/"), 1);
    let by_tunnel = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n{request}");
    let url = format!("http://{to}/");
    let here = format!("{to}:127.0.0.1");
    let http = format!("http://{proxy}");
    let socks = format!("socks5h://{proxy}");
    let mut ways: Vec<(&str, Download<'_>)> = vec![
        (
            "reader, direct",
            Box::new(|| download(server, &request, size)),
        ),
        (
            "reader, by URL",
            Box::new(|| download(proxy, &by_url, size)),
        ),
        (
            "reader, by CONNECT",
            Box::new(|| download(proxy, &by_tunnel, size)),
        ),
        (
            "curl, direct",
            Box::new(|| curl(&["--resolve", &here, &url], size)),
        ),
        (
            "curl, by URL",
            Box::new(|| curl(&["--proxy", &http, &url], size)),
        ),
        (
            "curl, by SOCKS5",
            Box::new(|| curl(&["--proxy", &socks, &url], size)),
        ),
    ];
    let mut rates = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (rates, (_, download)) in rates.iter_mut().zip(&mut ways) {
            rates.push(download()?);
        }
    }
    let mut direct = 0.0;
    for (rates, (way, _)) in rates.iter_mut().zip(&ways) {
        rates.sort_by(f64::total_cmp);
        let rate = rates[rates.len() / 2];
        if way.ends_with("direct") {
            direct = rate;
        }
        println!(
            "{way:>18}: {rate:6.0} MB/s, {:3.0} % of direct",
            rate / direct * 100.0
        );
    }
    Ok(())
}

/// Downloads once and gives megabytes a second.
type Download<'a> = Box<dyn FnMut() -> io::Result<f64> + 'a>;

/// A server that answers anything with so many bytes.
fn serve(size: u64) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = || -> io::Result<()> {
                let mut stream = stream?;
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    request.extend_from_slice(&byte);
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                let piece = vec![7; 1 << 20];
                (0..size >> 20).try_for_each(|_| stream.write_all(&piece))
            };
            if let Err(error) = answer() {
                eprintln!("server: {error}");
            }
        }
    });
    Ok(address)
}

/// The proxy, on threads of its own as in the daemon.
fn proxy(port: u16) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let rule = format!("big.example.org:{port}");
    let policy = Arc::new(Allowlist::parse([&*rule])?);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let egress = Egress::new(policy, Arc::new(|_: Event| {}), Limits::default())
            .resolver(Arc::new(Here))
            .reach(Reach::LoopbackForTests { low_ports_at: 0 });
        runtime.block_on(egress.serve(listener, CancellationToken::new()))
    });
    Ok(address)
}

/// Megabytes a second.
fn download(address: SocketAddr, request: &str, size: u64) -> io::Result<f64> {
    let mut stream = TcpStream::connect(address)?;
    let begin = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut buffer = vec![0; 256 << 10];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length => received += length as u64,
        }
    }
    if received < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(received as f64 / 1e6 / begin.elapsed().as_secs_f64())
}

/// The same by curl, into a file that takes everything.
fn curl(arguments: &[&str], size: u64) -> io::Result<f64> {
    let begin = Instant::now();
    let status = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--output",
            "/dev/null",
        ])
        .args(arguments)
        .env_clear()
        .status()?;
    if !status.success() {
        return Err(io::Error::other("curl failed"));
    }
    Ok(size as f64 / 1e6 / begin.elapsed().as_secs_f64())
}
