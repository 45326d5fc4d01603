//! Whole outputs and diffs, read in stretches: an output may be larger than any message.

use base64::{Engine, engine::general_purpose::STANDARD};
use rmcp::{
    ErrorData,
    model::{MetaObject, ReadResourceResult, Resource, ResourceContents},
};

use crate::service::{
    self, Call, Failure, ResourceRead, ResourceStretch, ResourceUri, Service,
    excerpt::whole_characters,
};

/// Most bytes of a resource in one message.
const STRETCH: u64 = 1024 * 1024;

/// A short name for a resource.
pub fn name(uri: &ResourceUri) -> &'static str {
    match uri {
        ResourceUri::Output { stream, .. } => stream.name(),
        ResourceUri::Changes { .. } => "changes.diff",
    }
}

/// What a resource's content is.
pub fn media_type(uri: &ResourceUri) -> &'static str {
    match uri {
        ResourceUri::Output { .. } => "text/plain",
        ResourceUri::Changes { .. } => "text/x-diff",
    }
}

/// A resource as it stands in a list.
pub fn described(resource: &service::Resource) -> Resource {
    let described = Resource::new(resource.uri.to_string(), name(&resource.uri))
        .with_title(&resource.title)
        .with_mime_type(media_type(&resource.uri));
    match resource.size_bytes {
        Some(size) => described.with_size(size),
        None => described,
    }
}

/// A failure of a request that has no place for a result that is an error.
pub fn refusal(failure: &Failure) -> ErrorData {
    let message = format!("{failure}\nNext: {}", failure.next_step());
    let data = serde_json::to_value(failure).ok();
    match failure {
        Failure::NoSuchResource { .. } | Failure::NoSuchHandle { .. } => {
            ErrorData::resource_not_found(message, data)
        }
        Failure::Invalid { .. } => ErrorData::invalid_params(message, data),
        _ => ErrorData::internal_error(message, data),
    }
}

/// An address and where to begin: `envd://…?offset=N`.
fn parsed(uri: &str) -> Result<(ResourceUri, u64), Failure> {
    let unknown = || Failure::NoSuchResource {
        uri: uri.chars().take(200).collect(),
    };
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let offset = match query {
        "" => 0,
        query => query
            .strip_prefix("offset=")
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(unknown)?,
    };
    Ok((path.parse().map_err(|_| unknown())?, offset))
}

/// Reads a stretch of a resource. The answer says how much there is, and the address at which to go on.
pub async fn read(
    service: &dyn Service,
    call: &Call,
    address: &str,
) -> Result<ReadResourceResult, ErrorData> {
    let (uri, offset) = parsed(address).map_err(|failure| refusal(&failure))?;
    let stretch = service
        .resource_read(
            call,
            ResourceRead {
                uri: uri.clone(),
                offset,
                limit: STRETCH,
            },
        )
        .await
        .map_err(|failure| refusal(&failure))?;
    Ok(ReadResourceResult::new(vec![contents(
        &uri, address, offset, stretch,
    )]))
}

fn contents(
    uri: &ResourceUri,
    address: &str,
    offset: u64,
    stretch: ResourceStretch,
) -> ResourceContents {
    let ResourceStretch {
        mut bytes,
        total_bytes,
    } = stretch;
    let more = offset + (bytes.len() as u64) < total_bytes;
    if more {
        bytes.truncate(whole_characters(&bytes));
    }
    let next = offset + bytes.len() as u64;
    let mut meta = MetaObject::new();
    meta.0
        .insert("envd/total_bytes".to_owned(), total_bytes.into());
    if more {
        meta.0.insert(
            "envd/next".to_owned(),
            format!("{uri}?offset={next}").into(),
        );
    }
    match String::from_utf8(bytes) {
        Ok(text) => ResourceContents::text(text, address).with_mime_type(media_type(uri)),
        Err(error) => ResourceContents::blob(STANDARD.encode(error.as_bytes()), address)
            .with_mime_type("application/octet-stream"),
    }
    .with_meta(meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{CommandId, Stream};

    fn output() -> ResourceUri {
        ResourceUri::Output {
            command: CommandId::random(),
            stream: Stream::Stdout,
        }
    }

    fn json(contents: &ResourceContents) -> serde_json::Value {
        serde_json::to_value(contents).expect("plain data")
    }

    #[test]
    fn an_address_may_say_where_to_begin_and_nothing_else() {
        let uri = output();
        assert_eq!(parsed(&uri.to_string()), Ok((uri.clone(), 0)));
        assert_eq!(parsed(&format!("{uri}?offset=7")), Ok((uri.clone(), 7)));
        for query in ["?offset=-1", "?offset=", "?limit=3", "?offset=1&offset=2"] {
            assert!(parsed(&format!("{uri}{query}")).is_err(), "{query}");
        }
    }

    #[test]
    fn a_stretch_says_where_to_go_on_and_cuts_no_character() {
        let uri = output();
        let stretch = ResourceStretch {
            bytes: "ab€".as_bytes()[..4].to_vec(),
            total_bytes: 100,
        };
        let json = json(&contents(&uri, "here", 10, stretch));
        assert_eq!(json["text"], "ab");
        assert_eq!(json["_meta"]["envd/next"], format!("{uri}?offset=12"));
    }

    #[test]
    fn what_is_no_text_comes_as_base64() {
        let stretch = ResourceStretch {
            bytes: vec![0xFF, 0xFE, 0],
            total_bytes: 3,
        };
        let json = json(&contents(&output(), "here", 0, stretch));
        assert_eq!(json["blob"], "//4A");
        assert!(json["_meta"].get("envd/next").is_none());
    }
}
