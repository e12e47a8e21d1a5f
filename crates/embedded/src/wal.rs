//! Looks for damage in SQLite's write-ahead log, which SQLite itself does not tell.
//!
//! A log ends at the first frame whose checksum does not fit: that is how SQLite knows what a power cut left half
//! written. A bit that flipped further ahead looks the same to it, and everything behind it would be lost without a word. But
//! each commit is flushed before the next one begins, so a bad frame that has a later commit's frames behind it was whole
//! once. <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
    path::Path,
};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// What is wrong with a log, if there is one and something is.
pub(crate) fn damage(path: &Path) -> io::Result<Option<&'static str>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut log = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER_BYTES];
    // One that is shorter, or all zero, had not reached the disk, and so neither had a commit.
    if !read_whole(&mut log, &mut header)? || header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let Some(log) = Log::new(log, &header) else {
        return Ok(Some("it does not begin like a write-ahead log"));
    };
    let damaged = log.has_damage()?;
    Ok(damaged.then_some("a commit in the middle of it does not fit its checksum"))
}

/// False at the end of the file, also in the middle of `bytes`.
fn read_whole(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

type Checksum = (u32, u32);

struct Log<R> {
    frames: R,
    big_endian: bool,
    salt: [u8; 8],
    sum: Checksum,
    frame: Vec<u8>,
}

impl<R: Read> Log<R> {
    /// None if the header is not one: SQLite would take the log for empty and write over it.
    fn new(frames: R, header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let magic = word(header, 0, true);
        let big_endian = magic & 1 == 1;
        let sum = checksum((0, 0), &header[..24], big_endian);
        let page = word(header, 8, true);
        let fits = magic & !1 == 0x377f_0682 && sum == (word(header, 24, true), word(header, 28, true));
        let fits = fits && (512..=65_536).contains(&page) && page.is_power_of_two();
        let salt = header[16..24].try_into().expect("8 bytes");
        let frame = vec![0; FRAME_HEADER_BYTES + page as usize];
        fits.then_some(Self { frames, big_endian, salt, sum, frame })
    }

    /// Whether a bad frame has frames of a later commit behind it.
    fn has_damage(mut self) -> io::Result<bool> {
        let mut is_bad = false;
        while self.next()? {
            is_bad |= !self.fits();
            self.sum = self.stored();
            if is_bad && self.is_commit() {
                // What is left of a commit that failed and was written over has no such successor.
                return Ok(self.next()? && self.fits());
            }
        }
        Ok(false)
    }

    /// The next frame of this life of the log. Frames of an earlier one have another salt.
    fn next(&mut self) -> io::Result<bool> {
        Ok(read_whole(&mut self.frames, &mut self.frame)? && self.frame[8..16] == self.salt)
    }

    fn fits(&self) -> bool {
        let sum = checksum(self.sum, &self.frame[..8], self.big_endian);
        checksum(sum, &self.frame[FRAME_HEADER_BYTES..], self.big_endian) == self.stored()
    }

    fn stored(&self) -> Checksum {
        (word(&self.frame, 16, true), word(&self.frame, 20, true))
    }

    /// The last frame of a commit says how large the database is after it.
    fn is_commit(&self) -> bool {
        word(&self.frame, 4, true) != 0
    }
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = bytes[at..at + 4].try_into().expect("4 bytes");
    if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

fn checksum((mut one, mut other): Checksum, bytes: &[u8], big_endian: bool) -> Checksum {
    for at in (0..bytes.len()).step_by(8) {
        one = one.wrapping_add(word(bytes, at, big_endian)).wrapping_add(other);
        other = other.wrapping_add(word(bytes, at + 4, big_endian)).wrapping_add(one);
    }
    (one, other)
}
