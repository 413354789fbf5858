use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    mem,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use buttress_slo::{DecodeError, InstanceId, Restored, Snapshot, Tenancy, Tracker};

use super::{SnapshotError, SnapshotFile};

/// What became of a tracker at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// There was no snapshot: the first start, most likely.
    Fresh,
    /// It goes on from where a process before it ended.
    Restored(Restored),
    /// What was there could not be used. It begins anew.
    SetAside {
        /// Where it lies now.
        to: PathBuf,
        /// What was wrong with it.
        why: String,
    },
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("no snapshot was there: counting begins now"),
            Self::Restored(Restored { gap, notes }) => {
                write!(f, "restored; nobody counted for {gap:?}")?;
                notes.iter().try_for_each(|note| write!(f, "; {note}"))
            }
            Self::SetAside { to, why } => write!(
                f,
                "the snapshot could not be used ({why}) and lies at {} now: counting begins anew",
                to.display()
            ),
        }
    }
}

/// Keeps a tracker in a file.
#[derive(Debug)]
pub(super) struct Keeper {
    instance: InstanceId,
    /// Held while the file is read or written, and by nobody who may not wait for that.
    place: Mutex<Option<Place>>,
    schedule: Mutex<Schedule>,
}

#[derive(Debug)]
struct Place {
    file: SnapshotFile,
    tenancy: Tenancy,
    failing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Schedule {
    /// How often it is saved; `None` without a file.
    pub(super) every: Option<Duration>,
    pub(super) saved: Option<Instant>,
}

/// What a save was, for those who are told once.
pub(super) enum Saved<'a> {
    AgainAtLast,
    /// The first failure of a row.
    NoMore(&'a SnapshotError),
}

impl Keeper {
    pub(super) fn new() -> Self {
        // Each of these has random keys of its own; that is all the standard library has.
        let half = || u128::from(RandomState::new().hash_one(std::process::id()));
        let instance = InstanceId::new(half() << 64 | half());
        Self { instance, place: Mutex::default(), schedule: Mutex::default() }
    }

    pub(super) fn schedule(&self) -> Schedule {
        *lock(&self.schedule)
    }

    /// Reads what `file` holds into `tracker`, and keeps to that file from then on. What was set
    /// aside is handed to `told`, which waits for nobody.
    pub(super) fn start(
        &self,
        file: SnapshotFile,
        tracker: &Mutex<Tracker>,
        told: impl FnOnce(&Start),
    ) -> Result<Start, SnapshotError> {
        let mut place = lock(&self.place);
        let mut tenancy = Tenancy::new(self.instance);
        let start = match file.read()? {
            None => Start::Fresh,
            Some(bytes) => match restore(&bytes, self.instance, tracker) {
                Ok((snapshot, restored)) => {
                    tenancy = tenancy.after(&snapshot);
                    Start::Restored(restored)
                }
                Err(why) => Start::SetAside { to: file.set_aside()?, why },
            },
        };
        if let Start::SetAside { .. } = start {
            told(&start);
        }
        file.clear_unfinished();
        lock(&self.schedule).every = Some(file.cadence());
        *place = Some(Place { file, tenancy, failing: false });
        Ok(start)
    }

    /// Writes what `tracker` knows. What is worth telling is handed to `told`, which waits for
    /// nobody: before the next save, so that it comes in order.
    pub(super) fn save(
        &self,
        tracker: &Mutex<Tracker>,
        now: Instant,
        told: impl FnOnce(Saved<'_>),
    ) -> Result<(), SnapshotError> {
        let mut place = lock(&self.place);
        let place = place.as_mut().ok_or(SnapshotError::NoFile)?;
        let saved = place.save(self.instance, tracker);
        let failed = mem::replace(&mut place.failing, saved.is_err());
        match &saved {
            Ok(()) => {
                lock(&self.schedule).saved = Some(now);
                if failed {
                    told(Saved::AgainAtLast);
                }
            }
            Err(error) if !failed => told(Saved::NoMore(error)),
            Err(_) => {}
        }
        saved
    }
}

impl Place {
    fn save(&self, writer: InstanceId, tracker: &Mutex<Tracker>) -> Result<(), SnapshotError> {
        if let Some(bytes) = self.file.read()? {
            match Snapshot::decode(&bytes) {
                Ok(found) => self.tenancy.check(&found).map_err(SnapshotError::Shared)?,
                // A neighbour in the middle of a release: what it keeps is of more worth.
                Err(DecodeError::Newer { version }) => {
                    let path = self.file.path().into();
                    return Err(SnapshotError::Newer { path, version });
                }
                // Somebody put something else there. It may be worth a look.
                Err(_) => drop(self.file.set_aside()?),
            }
        }
        // The tracker is locked for the copy only.
        let snapshot = lock(tracker).snapshot(writer);
        self.file.write(&snapshot.encode(), writer)
    }
}

fn restore(
    bytes: &[u8],
    own: InstanceId,
    tracker: &Mutex<Tracker>,
) -> Result<(Snapshot, Restored), String> {
    let snapshot = Snapshot::decode(bytes).map_err(|error| error.to_string())?;
    if snapshot.instance() == own {
        // Its own, from before: what it knows would be counted twice.
        return Ok((snapshot, Restored { gap: Duration::ZERO, notes: Vec::new() }));
    }
    let restored = lock(tracker).restore(&snapshot).map_err(|error| error.to_string())?;
    Ok((snapshot, restored))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
