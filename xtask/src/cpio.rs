//! Writes a `newc` cpio archive, which is what a kernel unpacks as its first root file system.
//! Format: the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// An archive under construction.
pub(crate) struct Cpio<W: Write> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Cpio<W> {
    /// Begins an archive.
    pub(crate) fn new(out: W) -> Self {
        Self { out, written: 0, inode: 0 }
    }

    /// Adds an empty directory.
    pub(crate) fn dir(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, 0o040_755, &[])
    }

    /// Adds an executable file.
    pub(crate) fn file(&mut self, name: &str, from: &Path) -> io::Result<()> {
        self.entry(name, 0o100_755, &fs::read(from)?)
    }

    /// Ends the archive and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{name} is over 4 GiB")))?;
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, uid, gid, links, mtime, size, device ×2, special device ×2, name size, check: 8 hex digits each.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        self.put(header.as_bytes())?;
        self.put(name.as_bytes())?;
        self.put(&[0])?;
        self.pad()?;
        self.put(content)?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Names and contents end on a multiple of four bytes.
    fn pad(&mut self) -> io::Result<()> {
        while !self.written.is_multiple_of(4) {
            self.put(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_the_trailer_ends_the_archive() {
        let file = std::env::temp_dir().join(format!("leasewarden-cpio-{}", std::process::id()));
        fs::write(&file, b"12345").unwrap();
        let mut cpio = Cpio::new(Vec::new());
        cpio.dir("dev").unwrap();
        cpio.file("init", &file).unwrap();
        let bytes = cpio.finish().unwrap();
        fs::remove_file(&file).unwrap();
        // 110 bytes of header, "dev\0", two of padding; then 110, "init\0", one of padding, five of content, three.
        assert_eq!(bytes.len(), 116 + 116 + 8 + 124);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[116..122], b"070701");
        assert_eq!(&bytes[232..237], b"12345");
        assert_eq!(&bytes[54 + 116..62 + 116], b"00000005");
    }
}
