use std::{
    error::Error,
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use buttress_core::TimeLimit;
use buttress_slo::{InstanceId, SharedPlace};

/// A file that keeps what a tracker knows through a restart.
///
/// ```
/// use buttress_layers::slo::{SloTracker, SnapshotFile, Start};
/// use buttress_slo::{Counts, Objective, Sli};
/// # let folder = std::env::temp_dir().join(format!("buttress-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("shop.slo");
///
/// let tracker = || {
///     let orders = Objective::new("orders".parse()?, Sli::Events, "99%".parse()?);
///     Ok::<_, Box<dyn std::error::Error>>(SloTracker::new("shop".parse()?, [orders])?)
/// };
/// let before = tracker()?;
/// assert!(matches!(before.keep(SnapshotFile::at(&path))?, Start::Fresh));
/// before.recorder("orders").unwrap().add(Counts { good: 9, bad: 1 });
/// before.save()?;
///
/// let after = tracker()?;
/// assert!(matches!(after.keep(SnapshotFile::at(&path))?, Start::Restored(_)));
/// assert_eq!(after.numbers("orders").unwrap().budget.counts(), Counts { good: 9, bad: 1 });
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    path: PathBuf,
    every: Duration,
}

impl SnapshotFile {
    /// A file of its own for this process, in a folder that is there. A link to a file stays one,
    /// and what it points to is written.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), every: EVERY }
    }

    /// Saves so often, and not every 60 s: who is killed loses so much at the most.
    #[must_use]
    pub fn every(self, wait: TimeLimit) -> Self {
        Self { every: wait.get(), ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn cadence(&self) -> Duration {
        self.every
    }

    /// What is there; `None` if nothing is. No more is read than any snapshot has.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, SnapshotError> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // A pipe would be waited for, and a device has no end.
            Ok(found) if !found.is_file() => {
                let error = io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
                return Err(self.cannot("read", error));
            }
            _ => {}
        }
        let file = File::open(&self.path).map_err(|error| self.cannot("open", error))?;
        let mut bytes = Vec::new();
        let read = file.take(LARGEST).read_to_end(&mut bytes);
        read.map_err(|error| self.cannot("read", error))?;
        Ok(Some(bytes))
    }

    /// Replaces what is there, as one step: whoever is killed meanwhile leaves the old or the new.
    pub(super) fn write(&self, bytes: &[u8], writer: InstanceId) -> Result<(), SnapshotError> {
        let place = self.place();
        // By a name of its own, or two processes could write into one file.
        let beside = beside(&place, &format!("{UNFINISHED}{writer}"));
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(bytes)?;
            // Before the rename, or after a power cut the name may stand for an empty file.
            file.sync_all()
        });
        let moved = written.and_then(|()| fs::rename(&beside, &place));
        if let Err(error) = moved {
            // It may not be there; either way the first error is the one to tell.
            let _ = fs::remove_file(&beside);
            return Err(self.cannot("save", error));
        }
        // The rename itself. Windows knows no such thing for a folder.
        if cfg!(unix) {
            let synced = File::open(folder(&place)).and_then(|folder| folder.sync_all());
            synced.map_err(|error| self.cannot("sync the folder of", error))?;
        }
        Ok(())
    }

    /// Moves what is there out of the way, to where it can be looked at. Says where that is.
    pub(super) fn set_aside(&self) -> Result<PathBuf, SnapshotError> {
        let place = self.place();
        // The first ones are kept, since they tell how it began, and of the rest the newest.
        let mut names =
            (1..=MOST_ASIDE).map(|number| beside(&place, &format!(".damaged-{number}")));
        let free = names.clone().find(|name| !fs::exists(name).unwrap_or(true));
        let aside = free.or_else(|| names.next_back()).expect("there are names");
        fs::rename(&place, &aside).map_err(|error| self.cannot("set aside", error))?;
        Ok(aside)
    }

    /// Removes what processes left that were killed while they wrote.
    pub(super) fn clear_unfinished(&self) {
        let place = self.place();
        let Some(name) = place.file_name().and_then(|name| name.to_str()) else { return };
        let begun = format!("{name}{UNFINISHED}");
        // By the id of its writer, or it may be a file of somebody else with a name alike.
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Should a neighbour be writing at this very moment, it tells that it could not.
        for entry in fs::read_dir(folder(&place)).into_iter().flatten().flatten() {
            let unfinished = entry.file_name();
            let id = unfinished.to_str().and_then(|name| name.strip_prefix(&begun));
            if id.is_some_and(is_id) {
                // What cannot be removed is a few kilobytes of litter.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Where it lies. A rename in the place of a link would leave what that points to as it was,
    /// and write to another volume from then on.
    fn place(&self) -> PathBuf {
        if !self.path.is_symlink() {
            return self.path.clone();
        }
        let there = fs::canonicalize(&self.path);
        // Nothing may be there yet.
        there
            .or_else(|_| fs::read_link(&self.path).map(|to| folder(&self.path).join(to)))
            .unwrap_or_else(|_| self.path.clone())
    }

    fn cannot(&self, doing: &'static str, error: io::Error) -> SnapshotError {
        SnapshotError::Io { doing, path: self.path.clone(), error }
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What a process that is killed may lose: a fifth of the shortest window, and less than the edge
/// of the long ones is off by anyway. More often would wear out a disk for little.
const EVERY: Duration = Duration::from_secs(60);

/// Far more than thousands of objectives take. What is longer is no snapshot.
const LARGEST: u64 = 256 << 20;

/// Of what writers have not finished, before their id.
const UNFINISHED: &str = ".new-";

/// Enough to see that it happens again and again.
const MOST_ASIDE: u32 = 20;

/// Why nothing was restored, or saved.
#[derive(Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No file was named: see [`SloTracker::keep`](super::SloTracker::keep).
    NoFile,
    /// The file system refused.
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which snapshot.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Another process saves to the same file.
    Shared(SharedPlace),
    /// A process of a newer build does.
    Newer {
        /// To which file.
        path: PathBuf,
        /// In which version of the format.
        version: u16,
    },
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("no snapshot file was named; keep the tracker in one"),
            Self::Io { doing, path, error } => {
                write!(f, "cannot {doing} the snapshot {}: {error}", path.display())?;
                remedy(error.kind()).map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
            }
            Self::Shared(shared) => shared.fmt(f),
            Self::Newer { path, version } => write!(
                f,
                "another process, of a newer build, saves to {} too, in format {version}; give \
                 each a file of its own",
                path.display()
            ),
        }
    }
}

/// What to do about it, where that is known.
const fn remedy(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    match kind {
        Kind::NotFound | Kind::NotADirectory => Some("make its folder, or name another one"),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            Some("name a folder in which this process may make files")
        }
        Kind::StorageFull | Kind::QuotaExceeded => {
            Some("make room there; what was saved before is as it was")
        }
        Kind::InvalidInput | Kind::IsADirectory => Some("name a file"),
        _ => None,
    }
}

impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoFile | Self::Newer { .. } => None,
            Self::Io { error, .. } => Some(error),
            Self::Shared(shared) => Some(shared),
        }
    }
}
