//! Files of known size and digest, from the first of several addresses that has them.

use std::path::{Path, PathBuf};

use envd_store::Digest;
use futures_util::{TryStreamExt, stream::FuturesUnordered};
use reqwest::{
    Response, StatusCode, Url,
    header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE},
};

use super::{
    Failure, FetchError, Fetcher, Tries,
    part::{Claim, Part, is_done},
    shown,
};
use crate::progress::{Phase, Progress};

/// A connection that brought this much before it broke was no failure.
const WORTH_A_RETRY: u64 = 1 << 20;

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// What it is, for messages: `python3 3.13.5-1 (amd64)`.
    pub what: String,
    /// Where it may be, the best address first. The others are for when it is not there any more.
    pub urls: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Digest,
}

impl Fetcher {
    /// Fetches a file to `<directory>/<sha256>` and returns that path. Bytes go to `<sha256>.part` first, which is locked
    /// against other processes and continued where a broken transfer left it. A file that is there already, with the
    /// right size, is taken as it is, offline too: it was verified before it got its name.
    pub async fn download(
        &self,
        wanted: &Download,
        directory: &Path,
        phase: Phase,
        progress: &dyn Progress,
    ) -> Result<PathBuf, FetchError> {
        let target = directory.join(wanted.sha256.to_string());
        if is_done(&target, wanted.size)? {
            progress.advance(phase, wanted.size);
            return Ok(target);
        }
        let mut urls = Vec::new();
        for url in &wanted.urls {
            urls.push(self.address(&wanted.what, url)?);
        }
        let slot = self.slot().await;
        let mut part = match Part::claim(wanted, directory).await? {
            Claim::Ours(part) => part,
            Claim::Done => {
                progress.advance(phase, wanted.size);
                return Ok(target);
            }
        };
        let mut told = Told {
            phase,
            progress,
            bytes: 0,
        };
        let mut tried = Vec::new();
        for url in &urls {
            match self.download_from(url, wanted, &mut part, &mut told).await {
                Ok(()) => {
                    // The disk may take its time; the network need not wait for it.
                    drop(slot);
                    return part.finish().await;
                }
                Err(e) if e.may_be_elsewhere() => tried.push(e),
                Err(e) => return Err(e),
            }
        }
        if part.length() == 0 {
            part.discard();
        }
        match tried.len() {
            1 => Err(tried.remove(0)),
            _ => Err(FetchError::Nowhere {
                what: wanted.what.clone(),
                tried,
            }),
        }
    }

    /// Fetches several files, as many at once as the settings allow, and returns their paths in the order asked. The first
    /// failure ends it; what was under way is continued next time.
    pub async fn download_all(
        &self,
        wanted: &[Download],
        directory: &Path,
        phase: Phase,
        progress: &dyn Progress,
    ) -> Result<Vec<PathBuf>, FetchError> {
        progress.started(phase, wanted.iter().map(|wanted| wanted.size).sum());
        let transfers: FuturesUnordered<_> = wanted
            .iter()
            .enumerate()
            .map(|(at, wanted)| async move {
                let path = self.download(wanted, directory, phase, progress).await?;
                Ok::<_, FetchError>((at, path))
            })
            .collect();
        let mut paths: Vec<_> = transfers.try_collect().await?;
        progress.finished(phase);
        paths.sort_unstable_by_key(|(at, _)| *at);
        Ok(paths.into_iter().map(|(_, path)| path).collect())
    }

    async fn download_from(
        &self,
        url: &Url,
        wanted: &Download,
        part: &mut Part,
        told: &mut Told<'_>,
    ) -> Result<(), FetchError> {
        let mut tries = Tries::new(&self.settings);
        let mut restarted = false;
        loop {
            let before = part.length();
            match self.attempt(url, wanted, part, told).await {
                Ok(()) => {
                    let found = part.digest();
                    if found == wanted.sha256 {
                        return Ok(());
                    }
                    let stitched = part.is_stitched();
                    part.restart()?;
                    if stitched && !restarted {
                        restarted = true;
                        continue;
                    }
                    return Err(FetchError::WrongDigest {
                        what: wanted.what.clone(),
                        url: shown(url),
                        expected: wanted.sha256,
                        found,
                    });
                }
                Err(failure) => {
                    if part.length() >= before + WORTH_A_RETRY {
                        tries.progressed();
                    }
                    tries.after(failure, url).await?;
                }
            }
        }
    }

    /// One request, until the file is whole.
    async fn attempt(
        &self,
        url: &Url,
        wanted: &Download,
        part: &mut Part,
        told: &mut Told<'_>,
    ) -> Result<(), Failure> {
        told.reach(part.length());
        if part.missing() == 0 {
            return Ok(());
        }
        let mut response = self.ask_for_rest(url, wanted, part).await?;
        if let Some(offered) = response.content_length()
            && offered != part.missing()
        {
            return Err(Failure::Final(FetchError::WrongLength {
                what: wanted.what.clone(),
                url: shown(url),
                expected: part.missing(),
                offered,
            }));
        }
        while let Some(chunk) = response.chunk().await? {
            if chunk.len() as u64 > part.missing() {
                part.restart()?;
                return Err(Failure::Final(FetchError::TooLarge {
                    url: shown(url),
                    limit: wanted.size,
                }));
            }
            part.append(&chunk)?;
            told.reach(part.length());
        }
        match part.missing() {
            0 => Ok(()),
            missing => Err(Failure::Passing {
                error: format!("the connection ended {missing} bytes early").into(),
                status: None,
                pause: None,
            }),
        }
    }

    /// The answer that continues the part, which is emptied when the server will not continue it.
    async fn ask_for_rest(
        &self,
        url: &Url,
        wanted: &Download,
        part: &mut Part,
    ) -> Result<Response, Failure> {
        let offset = part.length();
        if offset > 0 {
            let mut headers = HeaderMap::new();
            if let Ok(range) = HeaderValue::from_str(&format!("bytes={offset}-")) {
                headers.insert(RANGE, range);
            }
            match self.ask(url, headers).await {
                Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    if continues(&response, offset, wanted.size) {
                        part.continue_with_another_answer();
                        return Ok(response);
                    }
                }
                // It does not know ranges, and sends the whole.
                Ok(response) => {
                    part.restart()?;
                    return Ok(response);
                }
                Err(Failure::Final(FetchError::Status { status: 416, .. })) => {}
                Err(failure) => return Err(failure),
            }
            part.restart()?;
        }
        match self.ask(url, HeaderMap::new()).await? {
            response if response.status() == StatusCode::OK => Ok(response),
            other => Err(Failure::Final(FetchError::Status {
                url: shown(url),
                status: other.status().as_u16(),
            })),
        }
    }
}

/// Whether a partial answer starts where it should, of a whole as large as it should be.
fn continues(response: &Response, offset: u64, size: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    let parse = |text: &str| {
        let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let right = start.parse() == Ok(offset)
            && end.parse() == Ok(size - 1)
            && (whole == "*" || whole.parse() == Ok(size));
        Some(right)
    };
    range
        .and_then(|value| parse(value.to_str().ok()?))
        .unwrap_or(false)
}

/// Tells of each byte once, however often it is fetched.
struct Told<'a> {
    phase: Phase,
    progress: &'a dyn Progress,
    bytes: u64,
}

impl Told<'_> {
    fn reach(&mut self, length: u64) {
        if length > self.bytes {
            self.progress.advance(self.phase, length - self.bytes);
            self.bytes = length;
        }
    }
}
