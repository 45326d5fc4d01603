use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use envd_store::Digest;

use super::{
    testing::{Reply, Server, fetcher},
    *,
};
use crate::progress::{Phase, Progress, Silent};

fn body() -> Vec<u8> {
    (0..300_000u32).map(|n| (n % 251) as u8).collect()
}

fn wanted(body: &[u8], urls: &[String]) -> Download {
    Download {
        what: "thing 1.0 (amd64)".to_owned(),
        urls: urls.to_vec(),
        size: body.len() as u64,
        sha256: Digest::of(body),
    }
}

async fn get(server: &Server, into: &Path) -> Result<std::path::PathBuf, FetchError> {
    let wanted = wanted(&body(), &[server.url("thing")]);
    fetcher()
        .download(&wanted, into, Phase::Download, &Silent)
        .await
}

/// What a directory holds, by name.
fn held(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_download_arrives_whole_under_its_digest() {
    let server = Server::start(|_| Reply::whole(&body())).await;
    let directory = tempfile::tempdir().unwrap();
    let path = get(&server, directory.path()).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), body());
    assert_eq!(held(directory.path()), [Digest::of(&body()).to_string()]);
    // Once is enough.
    get(&server, directory.path()).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_broken_connection_is_continued_where_it_broke() {
    let server = Server::start(|request| {
        let reply = Reply::ranged(&body(), request);
        match request.earlier {
            0..3 => reply.cut_after(70_000),
            _ => reply,
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = get(&server, directory.path()).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    let requests = server.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[0].from.is_none());
    assert!(requests[1..].iter().all(|r| r.from.is_some()));
}

#[tokio::test]
async fn a_part_that_an_earlier_run_left_is_continued() {
    let server = Server::start(|request| Reply::ranged(&body(), request)).await;
    let directory = tempfile::tempdir().unwrap();
    let part = directory
        .path()
        .join(format!("{}.part", Digest::of(&body())));
    fs::write(&part, &body()[..100_000]).unwrap();
    let path = get(&server, directory.path()).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(server.requests()[0].from, Some(100_000));
    assert!(!part.exists());
}

#[tokio::test]
async fn a_part_of_something_else_is_fetched_anew_once() {
    let server = Server::start(|request| Reply::ranged(&body(), request)).await;
    let part = |directory: &Path| directory.join(format!("{}.part", Digest::of(&body())));
    for left in [vec![7; 100_000], vec![7; 300_000], vec![7; 400_000]] {
        let directory = tempfile::tempdir().unwrap();
        fs::write(part(directory.path()), &left).unwrap();
        let path = get(&server, directory.path()).await.unwrap();
        assert_eq!(fs::read(path).unwrap(), body());
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_for_the_whole() {
    let server = Server::start(|request| match request.earlier {
        0 => Reply::whole(&body()).cut_after(70_000),
        _ => Reply::whole(&body()),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = get(&server, directory.path()).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
}

#[tokio::test]
async fn an_answer_with_another_range_is_not_glued_on() {
    let server = Server::start(|request| match request.from {
        None if request.earlier == 0 => Reply::whole(&body()).cut_after(1000),
        None => Reply::whole(&body()),
        Some(_) => Reply {
            headers: "Content-Range: bytes 0-299999/300000\r\n".to_owned(),
            body: body(),
            ..Reply::status(206)
        },
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let path = get(&server, directory.path()).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
}

#[tokio::test]
async fn trouble_in_passing_is_tried_again_but_not_for_ever() {
    let server = Server::start(|request| match request.earlier {
        0 => Reply::status(500),
        1 => Reply::status(429),
        _ => Reply::whole(&body()),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    get(&server, directory.path()).await.unwrap();

    let down = Server::start(|_| Reply::status(503)).await;
    let directory = tempfile::tempdir().unwrap();
    match get(&down, directory.path()).await {
        Err(FetchError::Status { status: 503, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(down.requests().len(), 5);
    assert!(held(directory.path()).is_empty());
}

#[tokio::test]
async fn a_file_that_is_gone_is_looked_for_at_the_next_address_at_once() {
    let server = Server::start(|request| match request.path.as_str() {
        "old" => Reply::whole(&body()),
        _ => Reply::status(404),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let here = [server.url("thing"), server.url("old")];
    fetcher()
        .download(
            &wanted(&body(), &here),
            directory.path(),
            Phase::Download,
            &Silent,
        )
        .await
        .unwrap();
    assert_eq!(server.requests().len(), 2);

    let directory = tempfile::tempdir().unwrap();
    let nowhere = [server.url("thing"), server.url("other")];
    let error = fetcher()
        .download(
            &wanted(&body(), &nowhere),
            directory.path(),
            Phase::Download,
            &Silent,
        )
        .await
        .unwrap_err();
    assert!(error.is_missing(), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("thing 1.0") && message.contains("/other"),
        "{message}"
    );
}

#[tokio::test]
async fn tampered_bytes_are_refused_by_name_and_not_kept() {
    let server = Server::start(|_| {
        let mut body = body();
        body[5] ^= 1;
        Reply::whole(&body)
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let error = get(&server, directory.path()).await.unwrap_err();
    assert!(matches!(error, FetchError::WrongDigest { .. }));
    assert!(error.to_string().contains("thing 1.0 (amd64)"));
    assert_eq!(server.requests().len(), 1);
    assert!(held(directory.path()).is_empty());
}

#[tokio::test]
async fn a_truthful_mirror_makes_up_for_a_tampered_one() {
    let server = Server::start(|request| match request.path.as_str() {
        "evil" => Reply::whole(&vec![0; body().len()]),
        "larger" => Reply {
            silent_length: true,
            ..Reply::whole(&vec![0; body().len() + 1])
        },
        _ => Reply::whole(&body()),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let urls = ["evil", "larger", "good"].map(|path| server.url(path));
    let path = fetcher()
        .download(
            &wanted(&body(), &urls),
            directory.path(),
            Phase::Download,
            &Silent,
        )
        .await
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
}

#[tokio::test]
async fn lies_about_length_are_refused_or_outlived() {
    let directory = tempfile::tempdir().unwrap();
    // Announces another size than the index: nothing is read.
    let other = Server::start(|_| Reply::whole(&body()[1..])).await;
    assert!(matches!(
        get(&other, directory.path()).await,
        Err(FetchError::WrongLength { .. })
    ));
    // Announces nothing and sends more: no byte too many reaches the disk.
    let more = Server::start(|_| Reply {
        silent_length: true,
        ..Reply::whole(&vec![1; 900_000])
    })
    .await;
    assert!(matches!(
        get(&more, directory.path()).await,
        Err(FetchError::TooLarge { .. })
    ));
    assert!(held(directory.path()).is_empty());
    // Announces the right size and always sends less.
    let less = Server::start(|request| {
        Reply {
            announce: Some(request.from.map_or(300_000, |from| 300_000 - from)),
            ..Reply::ranged(&body(), request)
        }
        .cut_after(10)
    })
    .await;
    let error = get(&less, directory.path()).await.unwrap_err();
    assert!(
        matches!(error, FetchError::Transport { attempts: 5, .. }),
        "{error:?}"
    );
    // Announces nothing, and sends less once.
    let quiet = Server::start(|request| Reply {
        silent_length: true,
        cut: (request.earlier == 0).then_some(100_000),
        ..Reply::ranged(&body(), request)
    })
    .await;
    get(&quiet, directory.path()).await.unwrap();
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = Server::start(|_| Reply {
        pause: Duration::from_secs(60),
        ..Reply::whole(&body())
    })
    .await;
    let settings = FetchSettings {
        retries: 1,
        first_pause: Duration::from_millis(1),
        silence_timeout: Duration::from_millis(100),
        ..FetchSettings::default()
    };
    let error = Fetcher::new(settings)
        .get_small("thing", &server.url("thing"), 10)
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::Transport { attempts: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn two_who_want_the_same_fetch_it_once() {
    let server = Server::start(|_| Reply {
        pause: Duration::from_millis(100),
        ..Reply::whole(&body())
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    // Two fetchers, as two processes have: locks belong to open files, not to processes.
    let (one, two, three) = tokio::join!(
        get(&server, directory.path()),
        get(&server, directory.path()),
        get(&server, directory.path()),
    );
    assert_eq!(one.unwrap(), two.unwrap());
    three.unwrap();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(held(directory.path()), [Digest::of(&body()).to_string()]);
}

#[derive(Default)]
struct Counted {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Counted {
    fn started(&self, _: Phase, total: u64) {
        self.total.fetch_add(total, Ordering::Relaxed);
    }

    fn advance(&self, _: Phase, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
    }

    fn finished(&self, _: Phase) {
        let total = self.total.load(Ordering::Relaxed);
        assert_eq!(self.done.load(Ordering::Relaxed), total);
    }
}

#[tokio::test]
async fn several_arrive_in_order_and_progress_tells_each_byte_once() {
    let bodies: Vec<Vec<u8>> = (1..20u8)
        .map(|n| vec![n; usize::from(n) * 10_000])
        .collect();
    let served = bodies.clone();
    let server = Server::start(move |request| {
        let at: usize = request.path.parse().unwrap();
        let reply = Reply::ranged(&served[at], request);
        // Some break, some start over.
        match (request.earlier, at % 3) {
            (0, 0) => reply.cut_after(5000),
            (0, 1) => Reply::whole(&served[at]).cut_after(5000),
            _ => reply,
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(at, body)| wanted(body, &[server.url(&at.to_string())]))
        .collect();
    let counted = Counted::default();
    let fetcher = fetcher();
    let work = fetcher.download_all(&all, directory.path(), Phase::Download, &counted);
    fn is_send<T: Send>(future: T) -> T {
        future
    }
    let paths = is_send(work).await.unwrap();
    assert_eq!(paths.len(), bodies.len());
    for (path, body) in paths.iter().zip(&bodies) {
        assert_eq!(&fs::read(path).unwrap(), body);
    }
    assert!(counted.total.into_inner() > 0);
}

#[tokio::test]
async fn offline_nothing_connects_and_what_is_here_is_enough() {
    let server = Server::start(|_| Reply::whole(&body())).await;
    let directory = tempfile::tempdir().unwrap();
    let offline = Fetcher::new(FetchSettings {
        offline: true,
        ..FetchSettings::default()
    });
    let thing = wanted(&body(), &[server.url("thing?token=secret")]);
    let error = offline
        .download(&thing, directory.path(), Phase::Download, &Silent)
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("thing 1.0")
            && message.contains("ENVD_OFFLINE")
            && message.contains("/thing"),
        "{message}"
    );
    assert!(
        offline
            .get_small("list", &server.url("list"), 10)
            .await
            .is_err()
    );
    assert!(server.requests().is_empty());
    get(&server, directory.path()).await.unwrap();
    offline
        .download(&thing, directory.path(), Phase::Download, &Silent)
        .await
        .unwrap();
}

#[tokio::test]
async fn small_things_are_bounded() {
    let server = Server::start(|request| Reply {
        silent_length: request.path == "quiet",
        ..Reply::whole(&[0; 100])
    })
    .await;
    let fetcher = fetcher();
    let bytes = fetcher.get_small("list", &server.url("list"), 100).await;
    assert_eq!(bytes.unwrap(), [0; 100]);
    for path in ["list", "quiet"] {
        let result = fetcher.get_small("list", &server.url(path), 99).await;
        assert!(matches!(
            result,
            Err(FetchError::TooLarge { limit: 99, .. })
        ));
    }
}

#[tokio::test]
async fn no_message_shows_a_password() {
    let server = Server::start(|_| Reply::status(404)).await;
    let with_password = |path| server.url(path).replace("http://", "http://me:hunter2@");
    let unreachable = "http://me:hunter2@127.0.0.1:1/x?hunter2".to_owned();
    for url in [with_password("x"), with_password("x?hunter2"), unreachable] {
        let error = fetcher().get_small("x", &url, 10).await.unwrap_err();
        let mut said = format!("{error} {error:?}");
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            said += &format!(" {error} {error:?}");
            cause = error.source();
        }
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.contains("127.0.0.1"), "{said}");
    }
}

#[tokio::test]
async fn what_is_no_address_is_refused() {
    for url in [
        "",
        "trixie",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "http://",
    ] {
        let error = fetcher().get_small("x", url, 10).await.unwrap_err();
        assert!(
            matches!(error, FetchError::Address { .. }),
            "{url}: {error}"
        );
    }
}

#[tokio::test]
async fn a_system_without_certificates_fetches_from_plain_mirrors() {
    let server = Server::start(|_| Reply::whole(b"hello")).await;
    let fetcher = fetcher();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bare = fetcher.build_client(false).unwrap();
    let body = bare.get(server.url("x")).send().await.unwrap();
    assert_eq!(body.bytes().await.unwrap(), "hello");
}
