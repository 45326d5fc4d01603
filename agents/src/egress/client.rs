//! How tools inside are told of the proxy: environment variables, and files for those that read none.

use std::{collections::BTreeMap, path::PathBuf};

/// What an environment with a proxy gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientSettings {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// Files, their paths relative to the home directory. They are for tools that know nothing else, and not written where
    /// there is one already.
    pub files: BTreeMap<PathBuf, String>,
}

/// What is reached without the proxy: the environment itself.
const DIRECT: &str = "localhost,127.0.0.1,::1";

/// The settings for a proxy on 127.0.0.1 and `port`.
pub fn client_settings(port: u16) -> ClientSettings {
    let proxy = format!("http://127.0.0.1:{port}");
    let java = format!(
        "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={port} -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port} \
         -Dhttp.nonProxyHosts=localhost|127.*|[::1]"
    );
    // Most tools read one case of these, some only the other: curl, Python (pip, uv, requests), Go, git, rustup, wget, apt.
    let everyone = ["http_proxy", "https_proxy", "all_proxy"]
        .into_iter()
        .flat_map(|name| [name.to_owned(), name.to_uppercase()]);
    let own = [
        // Node's own fetch, from 22.21 and 24.
        ("NODE_USE_ENV_PROXY", "1"),
        ("CARGO_HTTP_PROXY", &proxy),
        ("PIP_PROXY", &proxy),
        ("npm_config_proxy", &proxy),
        ("npm_config_https_proxy", &proxy),
        ("npm_config_noproxy", DIRECT),
        ("YARN_HTTP_PROXY", &proxy),
        ("YARN_HTTPS_PROXY", &proxy),
        // Every JVM reads it: Gradle, sbt, Kotlin, the JDK's own client.
        ("JAVA_TOOL_OPTIONS", &java),
        ("no_proxy", DIRECT),
        ("NO_PROXY", DIRECT),
    ];
    let variables = everyone
        .map(|name| (name, proxy.clone()))
        .chain(own.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    // Maven's transport looks at neither variables nor system properties.
    let maven = format!(
        "<settings>\n  <proxies>\n{}{}  </proxies>\n</settings>\n",
        maven_proxy("http", port),
        maven_proxy("https", port),
    );
    ClientSettings {
        variables,
        files: BTreeMap::from([(".m2/settings.xml".into(), maven)]),
    }
}

fn maven_proxy(protocol: &str, port: u16) -> String {
    format!(
        "    <proxy>\n      <id>envd-{protocol}</id>\n      <active>true</active>\n      \
         <protocol>{protocol}</protocol>\n      <host>127.0.0.1</host>\n      <port>{port}</port>\n      \
         <nonProxyHosts>localhost|127.*</nonProxyHosts>\n    </proxy>\n"
    )
}
