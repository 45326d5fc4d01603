//! A project's root as an OCI image.

use std::path::Path;

use envd_oci::Image;

use super::{Local, architecture, locking, realising};
use crate::{
    cli::{Failure, Kind, image::Report},
    config::Manifest,
    progress::Progress,
    project::Project,
    realise::configure::recipe,
};

/// `envd image`.
pub(super) fn write(
    local: &Local,
    project: &Project,
    manifest: &Manifest,
    output: &Path,
    command: &[String],
    progress: &dyn Progress,
) -> Result<Report, Failure> {
    realising::project(local, project, manifest, progress)?;
    let lock = locking::current(local, project, manifest, progress)?;
    let root = lock
        .root
        .ok_or_else(|| Failure::new(Kind::Other, "the lock names no root"))?;
    let store = local.store()?;
    let variables = manifest
        .environment
        .variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    let image = Image {
        architecture: architecture()?.as_str().to_owned(),
        created: recipe::CLOCK,
        created_text: recipe::CLOCK_TEXT.to_owned(),
        environment: std::iter::once(path).chain(variables).collect(),
        entrypoint: Vec::new(),
        command: if command.is_empty() {
            vec!["/bin/sh".to_owned()]
        } else {
            command.to_vec()
        },
        working_directory: "/".to_owned(),
        reference: "latest".to_owned(),
    };
    let digest = envd_oci::write(&store, &store.tree(&root)?, &image, output)
        .map_err(|error| Failure::of(Kind::Other, &error))?;
    Ok(Report {
        path: output.to_owned(),
        digest: format!("sha256:{digest}"),
    })
}
