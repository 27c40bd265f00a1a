//! An overlay to open a store that cannot be written to. The file is only read, and what the
//! library writes to open it stays in memory.
//!
//! After a crash the library must repair a store before it can be read, which needs writes. They
//! are small if the last commit left the data for a quick repair, as every synced commit does.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::Bound,
    sync::{PoisonError, RwLock},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// The unit of writing in bytes.
const BLOCK_LEN: usize = 4096;
const BLOCK: u64 = BLOCK_LEN as u64;

/// The length of the longest file that systems support, so that arithmetic with blocks does not
/// overflow.
const LONGEST: u64 = i64::MAX as u64;

/// The limit for written bytes. A store that needs more to open is not served while its disk
/// accepts no writes.
const MOST_BYTES: usize = 64 << 20;

/// A file, covered by what was written.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    written: RwLock<Written>,
}

#[derive(Debug)]
struct Written {
    blocks: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    /// The length of the file that is still visible. Beyond it the file's contents were truncated.
    file_len: u64,
}

impl Overlay {
    pub(super) fn over(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
        }
        let file = FileBackend::new(file).map_err(io::Error::other)?;
        let written = Written { blocks: BTreeMap::new(), len, file_len: len };
        Ok(Self { file, written: RwLock::new(written) })
    }
}

/// Returns the end of a range.
fn end_of(offset: u64, len: usize) -> io::Result<u64> {
    let end = offset.checked_add(len as u64).filter(|it| *it <= LONGEST);
    end.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Returns the part of an offset that lies within its block.
fn within(offset: u64) -> usize {
    (offset % BLOCK) as usize
}

/// Splits a range at block borders. Yields for each part its block number, its offset in the block
/// and its length.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + len as u64;
    let first = offset / BLOCK;
    (first..).map_while(move |block| {
        let begin = offset.max(block * BLOCK);
        let len = end.min((block + 1) * BLOCK).checked_sub(begin).filter(|it| 0 < *it)?;
        Some((block, within(begin), usize::try_from(len).ok()?))
    })
}

impl Written {
    /// Reads a range from the file, with zeros beyond its visible length.
    fn below(&self, file: &FileBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = self.file_len.saturating_sub(offset).min(out.len() as u64);
        let there = usize::try_from(there).unwrap_or(out.len());
        let (kept, empty) = out.split_at_mut(there);
        empty.fill(0);
        match kept.is_empty() {
            true => Ok(()),
            false => file.read(offset, kept),
        }
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.read().unwrap_or_else(PoisonError::into_inner);
        if written.len < end_of(offset, out.len())? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        for (block, begin, len) in parts(offset, out.len()) {
            let part = &mut out[done..done + len];
            match written.blocks.get(&block) {
                Some(bytes) => part.copy_from_slice(&bytes[begin..begin + len]),
                None => written.below(&self.file, block * BLOCK + begin as u64, part)?,
            }
            done += len;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
        if len < written.len {
            written.file_len = written.file_len.min(len);
            written.blocks.split_off(&len.div_ceil(BLOCK));
            let rest = within(len);
            if rest != 0
                && let Some(last) = written.blocks.get_mut(&(len / BLOCK))
            {
                last[rest..].fill(0);
            }
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = end_of(offset, data.len())?;
        let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = |it: &(u64, usize, usize)| !written.blocks.contains_key(&it.0);
        let n_new = parts(offset, data.len()).filter(is_new).count();
        if MOST_BYTES / BLOCK_LEN < written.blocks.len() + n_new {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut done = 0;
        for (block, begin, len) in parts(offset, data.len()) {
            if !written.blocks.contains_key(&block) {
                let mut bytes = vec![0; BLOCK_LEN].into_boxed_slice();
                written.below(&self.file, block * BLOCK, &mut bytes)?;
                written.blocks.insert(block, bytes);
            }
            if let Some(bytes) = written.blocks.get_mut(&block) {
                bytes[begin..begin + len].copy_from_slice(&data[done..done + len]);
            }
            done += len;
        }
        written.len = written.len.max(end);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    // A file opened for reading can only take shared locks. They keep writers out.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(usize, Vec<u8>),
        SetLen(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let bytes = prop::collection::vec(any::<u8>(), 1..9000);
        prop_oneof![
            (0..30_000_usize, bytes).prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
            (1..40_000_usize).prop_map(Step::SetLen),
        ]
    }

    #[test]
    fn a_range_beyond_any_file_and_a_write_beyond_the_limit_change_nothing() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&[7; 10]).expect("written");
        let overlay = Overlay::over(File::open(file.path()).expect("a file")).expect("opened");
        for offset in [u64::MAX, u64::MAX - 4096, i64::MAX as u64] {
            let kind = io::ErrorKind::UnexpectedEof;
            let outcome = overlay.read(offset, &mut [0; 2]);
            assert_eq!(outcome.map_err(|it| it.kind()), Err(kind), "{offset}");
            let outcome = overlay.write(offset, &[1; 2]);
            assert_eq!(outcome.map_err(|it| it.kind()), Err(kind), "{offset}");
        }
        let outcome = overlay.write(0, &vec![1; MOST_BYTES + 1]);
        assert_eq!(outcome.map_err(|it| it.kind()), Err(io::ErrorKind::StorageFull));
        let mut read = [0; 10];
        overlay.read(0, &mut read).expect("readable");
        assert_eq!((overlay.len().expect("known"), read), (10, [7; 10]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_file_to_all_who_use_it_and_leaves_the_file_alone(
            steps in prop::collection::vec(step(), 0..20),
        ) {
            let mut file = tempfile::NamedTempFile::new().expect("a file");
            let before: Vec<u8> = (0..20_000_u32).map(|it| (it % 251) as u8).collect();
            file.write_all(&before).expect("written");
            let overlay = Overlay::over(File::open(file.path()).expect("a file")).expect("opened");
            let mut model = before.clone();
            for step in steps {
                match step {
                    Step::Write(offset, bytes) => {
                        model.resize(model.len().max(offset + bytes.len()), 0);
                        model[offset..offset + bytes.len()].copy_from_slice(&bytes);
                        overlay.write(offset as u64, &bytes).expect("written");
                    }
                    Step::SetLen(len) => {
                        model.resize(len, 0);
                        overlay.set_len(len as u64).expect("set");
                    }
                }
                let mut read = vec![0; model.len()];
                prop_assert_eq!(overlay.len().expect("known"), model.len() as u64);
                overlay.read(0, &mut read).expect("readable");
                prop_assert!(read == model);
            }
            prop_assert!(fs::read(file.path()).expect("readable") == before);
        }
    }
}
