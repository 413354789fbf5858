use crate::{
    atomic::{AtomicU64, Ordering},
    cells::Padded,
};

/// How many are inside, how many may be, and whether the lock has to be asked: one word.
///
/// One word, because then a place is taken against the very limit that holds at that moment, and
/// who leaves learns in the same step whether somebody waits. The lowest 32 bits count those
/// inside, the next 31 are the limit, the highest says that all that happens has to go through
/// the lock.
#[derive(Debug)]
pub(super) struct Word(Padded<AtomicU64>);

/// What the word said at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(u64);

const LIMIT: u32 = 32;
const LOCKED: u64 = 1 << 63;

/// The greatest limit: what 31 bits hold. So many requests at once are no limit at all.
pub(super) const MOST: u32 = u32::MAX >> 1;

impl Word {
    pub(super) fn new(limit: u32) -> Self {
        Self(Padded(AtomicU64::new(u64::from(limit.min(MOST)) << LIMIT)))
    }

    #[inline]
    pub(super) fn see(&self) -> Seen {
        Seen(self.0.0.load(Ordering::Relaxed))
    }

    /// Takes a place if there are fewer inside than `ceiling` says of the limit, and the lock need
    /// not be asked.
    #[inline]
    pub(super) fn try_take(&self, ceiling: impl Fn(u32) -> u32) -> Result<(), Seen> {
        self.take_if(|seen| !seen.is_locked() && seen.inside() < ceiling(seen.limit()))
    }

    /// Takes a place if there is one, for whoever holds the lock.
    pub(super) fn try_take_locked(&self) -> bool {
        self.take_if(|seen| seen.inside() < seen.limit()).is_ok()
    }

    /// A loop that compares and swaps, where a `fetch_add` would have to be undone when it finds no
    /// room: for that moment others would see a place taken that nobody has.
    #[inline]
    fn take_if(&self, fits: impl Fn(Seen) -> bool) -> Result<(), Seen> {
        let mut seen = self.see();
        while fits(seen) {
            // Acquire: who takes a place sees what was done before it was given back.
            match self.0.0.compare_exchange_weak(
                seen.0,
                seen.0 + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => seen = Seen(now),
            }
        }
        Err(seen)
    }

    /// Takes a place whether there is one or not.
    pub(super) fn take_anyway(&self) {
        self.0.0.fetch_add(1, Ordering::Acquire);
    }

    /// Gives a place back, and says what the word was before.
    #[inline]
    pub(super) fn give(&self) -> Seen {
        Seen(self.0.0.fetch_sub(1, Ordering::Release))
    }

    pub(super) fn set_limit(&self, limit: u32) {
        self.change_limit(limit, |_| true);
    }

    /// Unless it is 0, in one step: who shuts the gate at this moment finds it shut.
    pub(super) fn move_limit(&self, limit: u32) -> bool {
        self.change_limit(limit, |seen| seen.limit() > 0)
    }

    fn change_limit(&self, limit: u32, may: impl Fn(Seen) -> bool) -> bool {
        let with =
            |word: u64| (word & !(u64::from(MOST) << LIMIT)) | u64::from(limit.min(MOST)) << LIMIT;
        let mut seen = self.see();
        while may(seen) {
            match self.0.0.compare_exchange_weak(
                seen.0,
                with(seen.0),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => seen = Seen(now),
            }
        }
        false
    }

    /// From here on, until it is unlocked, everybody asks the lock. Only its holder says so.
    ///
    /// Who gives a place back later than this sees it, because both change the one word.
    pub(super) fn lock(&self) {
        self.0.0.fetch_or(LOCKED, Ordering::Relaxed);
    }

    pub(super) fn unlock(&self) {
        self.0.0.fetch_and(!LOCKED, Ordering::Relaxed);
    }
}

impl Seen {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest 32 bits are what is meant")]
    pub(super) const fn inside(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(super) const fn limit(self) -> u32 {
        (self.0 >> LIMIT) as u32 & MOST
    }

    #[inline]
    pub(super) const fn is_locked(self) -> bool {
        self.0 & LOCKED != 0
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_word_leave_one_another_alone() {
        let word = Word::new(u32::MAX);
        word.take_anyway();
        word.lock();
        word.set_limit(3);
        word.take_anyway();

        let seen = word.see();
        word.unlock();
        word.give();

        assert_eq!((seen.inside(), seen.limit(), seen.is_locked()), (2, 3, true));
        assert_eq!(
            (word.see().inside(), word.see().limit(), word.see().is_locked()),
            (1, 3, false)
        );
        assert_eq!(Word::new(u32::MAX).see().limit(), MOST);
    }
}
