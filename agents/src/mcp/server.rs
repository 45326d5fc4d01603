//! The protocol's requests, answered from the table of tools and the service.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock,
        Implementation, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
        MetaObject, PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams,
        ReadResourceResponse, Resource, ResourceTemplate, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    progress::{Board, telling},
    resources,
    tools::{self, Reply},
};
use crate::service::{
    Call, Failure, Listener, Nobody, Owner, RESOURCE_TEMPLATES, ResourceList, Service,
};

/// Told to every client, for its model.
const INSTRUCTIONS: &str = "Throwaway environments with exact toolchains. Create one with environment_create (the project's \
    tools by default), work in it with command_* and file_*, look at what changed with changes_diff and bring it into the \
    user's project with changes_apply; nothing outside changes before that. Everything ends with the session. Whatever is \
    missing inside is added with package_add, never by installing it by hand. There is no network unless it was asked for.";

/// How long a client may keep the list of tools, which never changes while a server runs.
const TOOLS_FRESH_MS: u64 = 24 * 60 * 60 * 1000;

/// Calls at a time for one owner. No model needs as many; a flood of them is refused before it costs anything.
const MOST_CALLS: u32 = 256;
/// How long the end waits for calls that were cancelled.
const LAST_MOMENT: Duration = Duration::from_secs(10);
/// Most characters of what a client calls itself.
const MOST_CLIENT_NAME: usize = 100;

/// What is asked of it is carried out for its owner. Clones serve the same owner.
#[derive(Clone)]
pub struct Server {
    service: Arc<dyn Service>,
    owner: Owner,
    over: CancellationToken,
    places: Arc<Semaphore>,
}

impl Server {
    /// A server for one owner. When `over` is cancelled, so is every call that is still being carried out.
    pub fn new(service: Arc<dyn Service>, owner: Owner, over: CancellationToken) -> Self {
        Self {
            service,
            owner,
            over,
            places: Arc::new(Semaphore::new(MOST_CALLS as usize)),
        }
    }

    /// Cancels the calls that are still being carried out, and waits until each has seen it: what one of them makes in its last
    /// moment is then there to be released. Later calls are refused.
    pub(super) async fn end(&self) {
        self.over.cancel();
        let all = self.places.acquire_many(MOST_CALLS);
        // A call that does not come back in this time blocks its thread. Its owner's end is noticed elsewhere, too.
        let _ = tokio::time::timeout(LAST_MOMENT, all).await;
        self.places.close();
    }

    fn call(&self, context: &RequestContext<RoleServer>, listener: Arc<dyn Listener>) -> Call {
        Call {
            owner: self.owner.clone(),
            client: context.client_info().map(|client| {
                let name = format!("{} {}", client.name, client.version);
                // It goes into logs: no line breaks, no escape sequences, no novels.
                name.chars()
                    .filter(|character| !character.is_control())
                    .take(MOST_CLIENT_NAME)
                    .collect()
            }),
            listener,
        }
    }

    /// Carries something out until it is cancelled by the client or by the end of the connection.
    async fn unless_cancelled<T>(
        &self,
        cancelled: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<T, ErrorData> {
        tokio::select! {
            biased;
            () = cancelled.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
            () = self.over.cancelled() => {
                Err(ErrorData::internal_error("the connection has ended", None))
            }
            done = work => Ok(done),
        }
    }
}

fn identity() -> ServerConfig {
    static IDENTITY: OnceLock<ServerConfig> = OnceLock::new();
    IDENTITY
        .get_or_init(|| {
            let capabilities = ServerCapabilities::builder()
                .enable_tools()
                .enable_resources()
                .build();
            let mut implementation = Implementation::new("envd", env!("CARGO_PKG_VERSION"));
            implementation.title = Some("envd: throwaway toolchains".to_owned());
            ServerConfig::new(capabilities)
                .with_server_info(implementation)
                .with_instructions(INSTRUCTIONS)
        })
        .clone()
}

/// A failure as a model reads it, and as a program does.
fn failed(failure: &Failure) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(format!(
        "{failure}\nNext: {}",
        failure.next_step()
    ))]);
    // Not as structured content: that has the output schema's form, which a failure has not.
    if let Ok(value) = serde_json::to_value(failure) {
        let mut meta = MetaObject::new();
        meta.0.insert("envd/failure".to_owned(), value);
        result.meta = Some(meta);
    }
    result
}

fn succeeded(reply: Reply, links: bool) -> CallToolResult {
    let mut content = vec![ContentBlock::text(reply.text)];
    if links {
        content.extend(reply.whole.iter().map(|uri| {
            ContentBlock::resource_link(
                Resource::new(uri.to_string(), resources::name(uri))
                    .with_mime_type(resources::media_type(uri)),
            )
        }));
    }
    let mut result = CallToolResult::success(content);
    result.structured_content = Some(reply.structured);
    result
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        identity()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&ProtocolVersion::V_2026_07_28))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = tools::all()
            .iter()
            .map(|entry| entry.tool.clone())
            .collect();
        let mut result = ListToolsResult::with_all_items(tools);
        result.ttl_ms = Some(TOOLS_FRESH_MS);
        result.cache_scope = Some(CacheScope::Public);
        Ok(result)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::find(name).map(|entry| entry.tool.clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let entry = tools::find(&request.name).ok_or_else(|| {
            ErrorData::invalid_params(format!("unknown tool: {}", request.name), None)
        })?;
        let Ok(_place) = self.places.try_acquire() else {
            return Ok(failed(&Failure::LimitReached {
                limit: "calls at a time".to_owned(),
                value: MOST_CALLS.to_string(),
            })
            .into());
        };
        let arguments = request.arguments.unwrap_or_default();
        let token = context.meta.get_progress_token();
        let board = Arc::new(Board::default());
        let listener: Arc<dyn Listener> = match token {
            Some(_) => board.clone(),
            None => Arc::new(Nobody),
        };
        let call = self.call(&context, listener);
        let work = entry.call(&*self.service, &call, arguments);
        let outcome = self
            .unless_cancelled(&context.ct, async {
                match &token {
                    Some(token) => telling(work, &board, token, &context.peer).await,
                    None => work.await,
                }
            })
            .await?;
        // Links to resources are content since 2025-06-18; the text names the addresses for everyone.
        let links = context
            .protocol_version()
            .is_some_and(|version| version >= ProtocolVersion::V_2025_06_18);
        Ok(match outcome {
            Ok(reply) => succeeded(reply, links),
            Err(failure) => failed(&failure),
        }
        .into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let call = self.call(&context, Arc::new(Nobody));
        let kept = self
            .unless_cancelled(
                &context.ct,
                self.service.resource_list(&call, ResourceList {}),
            )
            .await?
            .map_err(|failure| resources::refusal(&failure))?;
        Ok(ListResourcesResult::with_all_items(
            kept.resources.iter().map(resources::described).collect(),
        ))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let templates = RESOURCE_TEMPLATES.map(|(template, name, description)| {
            ResourceTemplate::new(template, name)
                .with_description(description)
                .with_mime_type("text/plain")
        });
        let mut result = ListResourceTemplatesResult::with_all_items(templates.into());
        result.ttl_ms = Some(TOOLS_FRESH_MS);
        result.cache_scope = Some(CacheScope::Public);
        Ok(result)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let call = self.call(&context, Arc::new(Nobody));
        self.unless_cancelled(
            &context.ct,
            resources::read(&*self.service, &call, &request.uri),
        )
        .await?
        .map(Into::into)
    }
}
