//! From addresses to files: bounded, verified while they stream, resumed when they break, and never written twice.
//!
//! Nothing is trusted for having come from a server: whoever fetches says what size and digest the bytes must have, or
//! (for the small files that start a chain of trust) how large they may be, and checks a signature.

mod download;
mod error;
mod part;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{sync::OnceLock, time::Duration};

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER},
};
use tokio::sync::Semaphore;

pub use self::{download::Download, error::FetchError};

/// How to fetch.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// Never connect: everything that is not here yet is an error.
    pub offline: bool,
    /// How many transfers may be under way at once.
    pub concurrency: usize,
    /// What servers are told about who asks.
    pub user_agent: String,
    /// How often a transfer that failed in passing is tried again. Progress resets the count.
    pub retries: u32,
    /// The pause before the first of these; each next one is twice as long, to eight seconds.
    pub first_pause: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a server may be silent.
    pub silence_timeout: Duration,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            offline: false,
            // From deb.debian.org these are streams of one HTTP/2 connection, each of which it slows down to some 7 MB/s:
            // 270 MB take 3.3 s by eight and 1.7 s by sixteen.
            concurrency: 16,
            user_agent: concat!("envd/", env!("CARGO_PKG_VERSION")).to_owned(),
            retries: 4,
            first_pause: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(15),
            silence_timeout: Duration::from_secs(30),
        }
    }
}

/// Fetches. One for the whole process, so that connections are shared and counted.
pub struct Fetcher {
    settings: FetchSettings,
    /// Made by the first transfer: reading the system's certificates costs milliseconds that no offline command owes.
    client: OnceLock<Client>,
    /// The one for systems without certificates, which trusts no https server.
    bare_client: OnceLock<Client>,
    slots: Semaphore,
}

/// Why an attempt failed, and whether another may do better.
enum Failure {
    /// In passing.
    Passing {
        error: Box<dyn std::error::Error + Send + Sync>,
        /// What the server answered, if it did.
        status: Option<StatusCode>,
        /// How long the server asks to wait.
        pause: Option<Duration>,
    },
    /// For good.
    Final(FetchError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Passing {
            // The address may hold a password, and is told beside it.
            error: Box::new(error.without_url()),
            status: None,
            pause: None,
        }
    }
}

impl Fetcher {
    /// A fetcher with these settings. Connects to nothing yet.
    pub fn new(settings: FetchSettings) -> Self {
        Self {
            slots: Semaphore::new(settings.concurrency.max(1)),
            client: OnceLock::new(),
            bare_client: OnceLock::new(),
            settings,
        }
    }

    /// Whether it never connects.
    pub fn is_offline(&self) -> bool {
        self.settings.offline
    }

    /// Fetches something of at most `limit` bytes into memory. `what` is for messages.
    pub async fn get_small(
        &self,
        what: &str,
        url: &str,
        limit: u64,
    ) -> Result<Vec<u8>, FetchError> {
        let url = self.address(what, url)?;
        let _slot = self.slot().await;
        let mut tries = Tries::new(&self.settings);
        loop {
            match self.get_once(&url, limit).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => tries.after(failure, &url).await?,
            }
        }
    }

    async fn get_once(&self, url: &Url, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut response = self.ask(url, HeaderMap::new()).await?;
        let too_large = || FetchError::TooLarge {
            url: shown(url),
            limit,
        };
        if response.content_length().is_some_and(|n| n > limit) {
            return Err(too_large().into());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(too_large().into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Sends a request and takes the answers that are no content for errors.
    async fn ask(&self, url: &Url, mut headers: HeaderMap) -> Result<Response, Failure> {
        // A digest is over the bytes as they lie on the server, so that no proxy may recode them.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = self.client(url.scheme() == "https")?;
        let response = client.get(url.clone()).headers(headers).send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let passing = status.is_server_error()
            || matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            );
        if !passing {
            return Err(Failure::Final(FetchError::Status {
                url: shown(url),
                status: status.as_u16(),
            }));
        }
        let pause = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(|seconds: u64| Duration::from_secs(seconds.min(30)));
        Err(Failure::Passing {
            error: format!("the server answers {status}").into(),
            status: Some(status),
            pause,
        })
    }

    fn client(&self, needs_certificates: bool) -> Result<&Client, FetchError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // Another part of the process may have installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        match self.build_client(true) {
            Ok(client) => Ok(self.client.get_or_init(|| client)),
            // A system without certificates can still fetch from an http mirror: trust comes from signatures.
            Err(_) if !needs_certificates => {
                let client = self.build_client(false)?;
                Ok(self.bare_client.get_or_init(|| client))
            }
            Err(e) => Err(e),
        }
    }

    fn build_client(&self, with_certificates: bool) -> Result<Client, FetchError> {
        let builder = Client::builder()
            .user_agent(&self.settings.user_agent)
            .connect_timeout(self.settings.connect_timeout)
            .read_timeout(self.settings.silence_timeout)
            .http2_adaptive_window(true);
        match with_certificates {
            true => builder,
            false => builder.tls_certs_only([]),
        }
        .build()
        .map_err(FetchError::Client)
    }

    /// Reads an address, unless nothing may be fetched from it.
    fn address(&self, what: &str, text: &str) -> Result<Url, FetchError> {
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(url) = url else {
            return Err(FetchError::Address {
                what: what.to_owned(),
                // Whatever it is, what precedes an "@" may be a password.
                url: text.rsplit('@').next().unwrap_or(text).to_owned(),
            });
        };
        match self.settings.offline {
            true => Err(FetchError::Offline {
                what: what.to_owned(),
                url: shown(&url),
            }),
            false => Ok(url),
        }
    }

    async fn slot(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // Fails only when the semaphore is closed, which nothing does.
        self.slots.acquire().await.ok()
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fetcher({:?})", self.settings)
    }
}

/// An address as it may be shown: without user name and password, and without a query, which may hold a token.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Counts attempts and waits between them.
struct Tries<'a> {
    settings: &'a FetchSettings,
    failed: u32,
    total: u32,
}

impl<'a> Tries<'a> {
    fn new(settings: &'a FetchSettings) -> Self {
        Self {
            settings,
            failed: 0,
            total: 0,
        }
    }

    /// Forgets failures that led forward all the same.
    fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits until the next attempt is due, or gives up.
    async fn after(&mut self, failure: Failure, url: &Url) -> Result<(), FetchError> {
        let (error, status, pause) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing {
                error,
                status,
                pause,
            } => (error, status, pause),
        };
        self.failed += 1;
        self.total += 1;
        if self.failed > self.settings.retries {
            return Err(match status {
                Some(status) => FetchError::Status {
                    url: shown(url),
                    status: status.as_u16(),
                },
                None => FetchError::Transport {
                    url: shown(url),
                    attempts: self.total,
                    cause: error,
                },
            });
        }
        let doubled = self.settings.first_pause * 2u32.pow((self.failed - 1).min(5));
        let own = doubled.min(Duration::from_secs(8));
        tokio::time::sleep(pause.unwrap_or(Duration::ZERO).max(own)).await;
        Ok(())
    }
}
