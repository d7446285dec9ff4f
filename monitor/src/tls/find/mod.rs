//! Where in a program or library the function is that is told the secrets of each TLS handshake.
//!
//! Every TLS library has one: it writes the key-log file, and decides inside whether anybody asked for one. One file per way
//! to find it. A unique winner is demanded: of two candidates neither is taken, and nothing is known of any one build.

use std::fs::File;
use std::io;

mod go;
mod image;
mod label;
mod pointers;
mod symbol;

use image::{Image, ImageError};

/// Where the arguments of the function are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// OpenSSL, BoringSSL, GnuTLS: as C passes them.
    C,
    /// Go's `crypto/tls`.
    Go,
    /// rustls: what is returned is the secret.
    Rust,
}

impl Layout {
    /// A word for it, as metrics and `doctor` show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::Go => "go",
            Self::Rust => "rustls",
        }
    }
}

/// How a function was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// By its symbol.
    Symbol,
    /// By the code that loads labels and calls it.
    Label,
    /// By Go's table of functions.
    GoTable,
    /// By the table of labels that it reads.
    Pointers,
}

impl Way {
    /// A word for it, as metrics and `doctor` show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Symbol => "symbol",
            Self::Label => "label",
            Self::GoTable => "go_table",
            Self::Pointers => "pointers",
        }
    }
}

/// A function that is told secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// Where it begins in the file, bytes.
    pub offset: u64,
    /// How its arguments are passed.
    pub layout: Layout,
    /// How it was found.
    pub way: Way,
}

/// What a file came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The functions. More than one: the file holds several libraries.
    pub found: Vec<Found>,
    /// Of these there was more than one candidate, and none was taken.
    pub ambiguous: Vec<Layout>,
    /// The texts of labels are in the file: it can do TLS, or speaks of it.
    pub labels: bool,
    /// The build id, where the linker has left one.
    pub build_id: Option<Vec<u8>>,
}

/// Candidates, by the places in the file where they begin.
#[derive(Debug, Default)]
struct Candidates(Vec<(Layout, Way, Vec<u64>)>);

impl Candidates {
    /// Adds what one way has found: one candidate, or several of which none is better.
    fn add(&mut self, image: &Image<'_>, layout: Layout, way: Way, addresses: &[u64]) {
        let mut offsets: Vec<u64> = addresses.iter().filter_map(|a| image.code_offset(*a)).collect();
        offsets.sort_unstable();
        offsets.dedup();
        if !offsets.is_empty() {
            self.0.push((layout, way, offsets));
        }
    }

    fn has(&self, layout: Layout) -> bool {
        self.0.iter().any(|(l, ..)| *l == layout)
    }
}

/// Looks for the functions in a file. What is no program of this kind of machine has none.
///
/// # Errors
/// The file cannot be read.
pub fn find(file: &File) -> io::Result<Findings> {
    let image = match Image::open(file) {
        Ok(image) => image,
        Err(ImageError::Foreign) => return Ok(Findings::default()),
        Err(ImageError::Io(e)) => return Err(e),
    };
    let build_id = image.build_id();
    let texts = label::texts(&image)?;
    if texts.is_empty() {
        return Ok(Findings { build_id, ..Findings::default() });
    }
    let mut candidates = Candidates::default();
    symbol::find(&image, &mut candidates);
    go::find(&image, &mut candidates)?;
    if !candidates.has(Layout::C) {
        label::find(&image, &texts, &mut candidates)?;
    }
    if !candidates.has(Layout::Rust) {
        pointers::find(&image, &texts, &mut candidates)?;
    }
    let mut findings = Findings { labels: true, build_id, ..Findings::default() };
    for (layout, way, offsets) in candidates.0 {
        match offsets.as_slice() {
            [offset] => findings.found.push(Found { offset: *offset, layout, way }),
            _ => findings.ambiguous.push(layout),
        }
    }
    Ok(findings)
}

#[cfg(test)]
pub(super) mod tests;
