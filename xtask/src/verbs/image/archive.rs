//! Writes a container image of one layer as a tar archive that is both an OCI image layout (what containerd, Podman and
//! skopeo read) and a Docker archive. Format: the OCI image specification, `image-layout.md` and `config.md`.
//!
//! The same input gives the same bytes: no times, no users, entries in order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One thing in the image's file system.
pub(crate) struct Entry {
    /// Path without the leading `/`.
    path: String,
    mode: u32,
    kind: Kind,
}

enum Kind {
    File(Vec<u8>),
    Link(String),
    Dir,
}

impl Entry {
    /// An executable file.
    pub(crate) fn program(path: &str, from: &Path) -> Result<Self> {
        Ok(Self { mode: 0o755, ..Self::file(path, from)? })
    }

    /// A file that all may read.
    pub(crate) fn file(path: &str, from: &Path) -> Result<Self> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(Self::text(path, content))
    }

    /// A file with this content.
    pub(crate) fn text(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.to_owned(), mode: 0o644, kind: Kind::File(content.into()) }
    }

    /// A symbolic link.
    pub(crate) fn link(path: &str, to: &str) -> Self {
        Self { path: path.to_owned(), mode: 0o777, kind: Kind::Link(to.to_owned()) }
    }

    /// An empty directory.
    pub(crate) fn dir(path: &str, mode: u32) -> Self {
        Self { path: path.to_owned(), mode, kind: Kind::Dir }
    }
}

/// An image to be written.
pub(crate) struct Image {
    /// `repository:tag`.
    pub(crate) name: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) entries: Vec<Entry>,
}

impl Image {
    /// Writes the archive; gives the digest of the image's manifest.
    ///
    /// # Errors
    /// When writing fails, or a path is too long for a tar archive.
    pub(crate) fn write(&self, out: impl Write) -> Result<String> {
        let layer = self.layer()?;
        let config = serde_json::to_vec(&json!({
            "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "created": self.created,
            "config": { "Entrypoint": self.entrypoint, "Cmd": self.command, "Labels": self.labels },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
            "history": [{ "created": self.created, "created_by": "cargo xtask image" }],
        }))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
            "annotations": self.labels,
        }))?;
        let mut listed = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        if let Some(fields) = listed.as_object_mut() {
            let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            // The specification's name is the tag alone; containerd looks for the whole one.
            fields.insert(
                "annotations".to_owned(),
                json!({ "org.opencontainers.image.ref.name": tag, "io.containerd.image.name": self.name }),
            );
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [listed],
        });
        let docker = json!([{ "Config": blob(&config), "RepoTags": [self.name], "Layers": [blob(&layer)] }]);
        let mut tar = Tar::new(out);
        tar.dir("blobs", 0o755)?;
        tar.dir("blobs/sha256", 0o755)?;
        for content in [&layer, &config, &manifest] {
            tar.file(&blob(content), 0o644, content)?;
        }
        tar.file("index.json", 0o644, &serde_json::to_vec(&index)?)?;
        tar.file("manifest.json", 0o644, &serde_json::to_vec(&docker)?)?;
        tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar.finish()?;
        Ok(digest(&manifest))
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut sorted: Vec<&Entry> = self.entries.iter().collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        let mut made = BTreeSet::new();
        let mut layer = Vec::new();
        let mut tar = Tar::new(&mut layer);
        for entry in sorted {
            let mut parents: Vec<&Path> = Path::new(&entry.path).ancestors().skip(1).collect();
            parents.reverse();
            for parent in parents.into_iter().filter_map(Path::to_str).filter(|p| !p.is_empty()) {
                if made.insert(parent.to_owned()) {
                    tar.dir(parent, 0o755)?;
                }
            }
            match &entry.kind {
                Kind::File(content) => tar.file(&entry.path, entry.mode, content)?,
                Kind::Link(to) => tar.link(&entry.path, to)?,
                Kind::Dir => {
                    if made.insert(entry.path.clone()) {
                        tar.dir(&entry.path, entry.mode)?;
                    }
                }
            }
        }
        tar.finish()?;
        Ok(layer)
    }
}

fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The path of a blob in an image layout.
fn blob(content: &[u8]) -> String {
    format!("blobs/{}", digest(content).replace(':', "/"))
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// A tar archive in which nothing depends on when and by whom it is written.
pub(crate) struct Tar<W: Write>(tar::Builder<W>);

impl<W: Write> Tar<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(tar::Builder::new(out))
    }

    fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Regular, mode, content.len() as u64);
        Ok(self.0.append_data(&mut header, path, content)?)
    }

    pub(crate) fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        Ok(self.0.append_data(&mut header, format!("{path}/"), std::io::empty())?)
    }

    fn link(&mut self, path: &str, to: &str) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        Ok(self.0.append_link(&mut header, path, to)?)
    }

    pub(crate) fn finish(self) -> Result<()> {
        Ok(self.0.into_inner()?.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn image(entries: Vec<Entry>) -> Image {
        Image {
            name: "example.org/thing:1".to_owned(),
            entrypoint: vec!["/thing".to_owned()],
            command: Vec::new(),
            labels: BTreeMap::new(),
            created: "1970-01-01T00:00:00Z".to_owned(),
            entries,
        }
    }

    fn read(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect()
    }

    #[test]
    fn the_archive_is_whole_and_names_its_parts_by_digest() {
        let mut out = Vec::new();
        let image = image(vec![Entry::text("b/c/file", "x"), Entry::link("lib", "usr/lib"), Entry::dir("tmp", 0o1777)]);
        let digest_of_manifest = image.write(&mut out).unwrap();
        let files = read(&out);
        for (path, content) in files.iter().filter(|(path, content)| path.starts_with("blobs") && !content.is_empty()) {
            assert_eq!(*path, blob(content));
        }
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["digest"], digest_of_manifest.as_str());
        let manifest: Value =
            serde_json::from_slice(&files[&format!("blobs/{}", digest_of_manifest.replace(':', "/"))]).unwrap();
        let docker: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let layer = docker[0]["Layers"][0].as_str().unwrap();
        assert_eq!(manifest["layers"][0]["digest"], digest(&files[layer]).as_str());
        let inside: Vec<String> = read(&files[layer]).into_keys().collect();
        assert_eq!(inside, ["b/", "b/c/", "b/c/file", "lib", "tmp/"]);
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        image(vec![Entry::text("a", "1"), Entry::text("b", "2")]).write(&mut one).unwrap();
        image(vec![Entry::text("b", "2"), Entry::text("a", "1")]).write(&mut two).unwrap();
        assert_eq!(one, two);
    }
}
