use std::{error::Error, fmt};

use super::{InstanceId, Snapshot};

/// Who may write where: tells two processes apart that were pointed at one place.
///
/// Before it writes, a process reads what is there. Its own is fine, and so is what it restored
/// from: that one has ended. Anything else was written by somebody who lives.
///
/// ```
/// use buttress_slo::{InstanceId, Tenancy};
/// # use buttress_slo::{Clocks, Tracker};
/// # use std::time::{Instant, SystemTime};
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// # let clocks = Clocks { monotonic: Instant::now(), wall: SystemTime::UNIX_EPOCH, boot: None };
/// # let tracker = Tracker::new("shop".parse()?, [], clocks)?;
/// let by = |instance| tracker.snapshot(InstanceId::new(instance));
/// let tenancy = Tenancy::new(InstanceId::new(2)).after(&by(1));
///
/// assert!(tenancy.check(&by(1)).is_ok(), "the one before us");
/// assert!(tenancy.check(&by(2)).is_ok(), "ourselves");
/// assert!(tenancy.check(&by(3)).is_err(), "a neighbour");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenancy {
    own: InstanceId,
    before: Option<InstanceId>,
}

impl Tenancy {
    /// Of a process that has restored nothing.
    #[must_use]
    pub const fn new(own: InstanceId) -> Self {
        Self { own, before: None }
    }

    /// Of a process that has restored from `snapshot`.
    #[must_use]
    pub const fn after(self, snapshot: &Snapshot) -> Self {
        Self { before: Some(snapshot.instance()), ..self }
    }

    /// Whether what is found may be written over.
    ///
    /// # Errors
    ///
    /// If another process wrote it that was not the one before us.
    pub fn check(self, found: &Snapshot) -> Result<(), SharedPlace> {
        let writer = found.instance();
        if writer == self.own || Some(writer) == self.before {
            Ok(())
        } else {
            Err(SharedPlace { own: self.own, writer, taken_at: found.taken_at() })
        }
    }
}

/// Another process writes to the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedPlace {
    own: InstanceId,
    writer: InstanceId,
    taken_at: i64,
}

impl fmt::Display for SharedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { own, writer, taken_at } = self;
        write!(
            f,
            "two processes keep their snapshots in one place: {writer} wrote there at Unix time \
             {taken_at}, and this is {own}; give each a place of its own"
        )
    }
}

impl Error for SharedPlace {}
