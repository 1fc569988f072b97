//! Reading from a place in a file, without moving its position: several threads may.

use std::fs::File;
use std::io;

/// Fills `bytes` from byte `at` of a file on.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] where the file ends before, and what the system says.
#[cfg(unix)]
pub fn read_exact_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

/// Fills `bytes` from byte `at` of a file on.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] where the file ends before, and what the system says.
#[cfg(windows)]
pub fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !bytes.is_empty() {
        match file.seek_read(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                bytes = &mut bytes[n..];
                at += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
