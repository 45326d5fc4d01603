//! An image layout directory (image-spec, image-layout.md) of one image with one layer.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use envd_store::{Digest, Hasher, Store, Tree, project};
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, ImageConfigurationBuilder,
    ImageIndexBuilder, ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, PlatformBuilder,
    RootFsBuilder, SCHEMA_VERSION,
};

/// gzip's level. The compressor's output is part of what we promise, so this and the library's version are pinned.
const LEVEL: u32 = 6;

/// What an image says beside its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As Go spells it: `amd64`, `arm64`.
    pub architecture: String,
    /// When it is said to have been made, seconds after the epoch; also the time of every file.
    pub created: u64,
    /// The same moment as RFC 3339 text.
    pub created_text: String,
    /// `NAME=value` pairs, in this order.
    pub environment: Vec<String>,
    /// What is run, before `command`.
    pub entrypoint: Vec<String>,
    /// What is run, or its arguments, when nothing else is asked for.
    pub command: Vec<String>,
    /// Where it is run.
    pub working_directory: String,
    /// The name by which tools find the image in the layout (`org.opencontainers.image.ref.name`).
    pub reference: String,
}

/// Why a layout could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The layer could not be made from the store.
    #[error("cannot pack the layer")]
    Pack(#[source] project::ProjectError),
    /// A document of the image is invalid.
    #[error("cannot make the image's {document}")]
    Document {
        /// Which.
        document: &'static str,
        /// Why.
        #[source]
        source: oci_spec::OciSpecError,
    },
    /// The directory holds something else.
    #[error("{path} exists and is no empty directory; choose another or remove it")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
}

/// Writes the tree as an image into `directory`, which must not exist or be empty, and returns the manifest's digest.
pub fn write(
    store: &Store,
    tree: &Tree,
    image: &Image,
    directory: &Path,
) -> Result<Digest, LayoutError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LayoutError::Write { path, source }
    };
    let blobs = directory.join("blobs/sha256");
    if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(LayoutError::Occupied {
            path: directory.to_owned(),
        });
    }
    fs::create_dir_all(&blobs).map_err(failed(&blobs))?;

    let layer = layer(store, tree, image.created, &blobs)?;
    let architecture = match image.architecture.as_str() {
        "amd64" => Arch::Amd64,
        "arm64" => Arch::ARM64,
        other => Arch::Other(other.to_owned()),
    };
    let document =
        |document: &'static str| move |source| LayoutError::Document { document, source };
    let mut config = ConfigBuilder::default().env(image.environment.clone());
    if !image.entrypoint.is_empty() {
        config = config.entrypoint(image.entrypoint.clone());
    }
    if !image.command.is_empty() {
        config = config.cmd(image.command.clone());
    }
    let config = config
        .working_dir(image.working_directory.clone())
        .build()
        .map_err(document("run configuration"))?;
    let root = RootFsBuilder::default()
        .typ("layers")
        .diff_ids([format!("sha256:{}", layer.unpacked)])
        .build()
        .map_err(document("list of layers"))?;
    let configuration = ImageConfigurationBuilder::default()
        .architecture(architecture.clone())
        .os(Os::Linux)
        .created(image.created_text.clone())
        .config(config)
        .rootfs(root)
        .build()
        .and_then(|configuration| configuration.to_string())
        .map_err(document("configuration"))?;
    let configuration = blob(&blobs, MediaType::ImageConfig, configuration.as_bytes())?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(configuration)
        .layers([layer.descriptor])
        .build()
        .and_then(|manifest| manifest.to_string())
        .map_err(document("manifest"))?;
    let digest = Digest::of(manifest.as_bytes());
    blob(&blobs, MediaType::ImageManifest, manifest.as_bytes())?;
    let platform = PlatformBuilder::default()
        .architecture(architecture)
        .os(Os::Linux)
        .build()
        .map_err(document("platform"))?;
    let listed = DescriptorBuilder::default()
        .media_type(MediaType::ImageManifest)
        .digest(sha256(&digest))
        .size(manifest.len() as u64)
        .platform(platform)
        .annotations([(
            "org.opencontainers.image.ref.name".to_owned(),
            image.reference.clone(),
        )])
        .build()
        .map_err(document("entry of the index"))?;
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests([listed])
        .build()
        .and_then(|index| index.to_string())
        .map_err(document("index"))?;
    let marker = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()
        .and_then(|layout| layout.to_string())
        .map_err(document("layout marker"))?;
    for (name, text) in [("index.json", index), ("oci-layout", marker)] {
        let path = directory.join(name);
        fs::write(&path, text).map_err(failed(&path))?;
    }
    Ok(digest)
}

struct Layer {
    descriptor: Descriptor,
    /// The digest of the tar before it was compressed: the layer's DiffID.
    unpacked: Digest,
}

fn layer(store: &Store, tree: &Tree, time: u64, blobs: &Path) -> Result<Layer, LayoutError> {
    let partial = blobs.join("layer.partial");
    let failed = |source| LayoutError::Write {
        path: partial.clone(),
        source,
    };
    let packed = Hashing::new(BufWriter::new(File::create(&partial).map_err(failed)?));
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(packed, Compression::new(LEVEL));
    let mut unpacked = Hashing::new(gzip);
    project::tar(store, tree, time, &mut unpacked).map_err(LayoutError::Pack)?;
    let (diff_id, _) = unpacked.hasher.finish();
    let mut packed = unpacked.inner.finish().map_err(failed)?;
    packed.flush().map_err(failed)?;
    let (digest, size) = packed.hasher.finish();
    let path = blobs.join(digest.to_string());
    fs::rename(&partial, &path).map_err(|source| LayoutError::Write { path, source })?;
    Ok(Layer {
        descriptor: Descriptor::new(MediaType::ImageLayerGzip, size, sha256(&digest)),
        unpacked: diff_id,
    })
}

fn blob(blobs: &Path, media_type: MediaType, content: &[u8]) -> Result<Descriptor, LayoutError> {
    let digest = Digest::of(content);
    let path = blobs.join(digest.to_string());
    fs::write(&path, content).map_err(|source| LayoutError::Write { path, source })?;
    Ok(Descriptor::new(
        media_type,
        content.len() as u64,
        sha256(&digest),
    ))
}

fn sha256(digest: &Digest) -> oci_spec::image::Digest {
    let digest = digest.to_string().parse::<oci_spec::image::Sha256Digest>();
    digest
        .expect("64 hexadecimal digits are a SHA-256 digest")
        .into()
}

/// A writer that hashes what passes.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
