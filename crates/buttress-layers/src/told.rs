use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    fmt::{self, Write},
    hash::Hasher,
    sync::{Mutex, TryLockError},
    time::{Duration, Instant},
};

/// What observers were told lately of things that come often: each is told once, and again when it
/// comes back after a minute.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// When each cause of a thing was last met, by hashes of what the causes say.
    met: Mutex<HashMap<usize, Vec<(u64, Instant)>>>,
}

impl Told {
    /// Whether that `what` happened with this cause is news.
    pub(crate) fn is_news(&self, what: usize, cause: impl fmt::Display, now: Instant) -> bool {
        // Before the lock, because a cause is somebody else's code.
        let cause = hash_of(cause);
        let mut met = match self.met.try_lock() {
            Ok(met) => met,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // These things come often, and nobody queues to tell of them: the next will be told.
            Err(TryLockError::WouldBlock) => return false,
        };
        let causes = met.entry(what).or_default();
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= QUIET;
        if let Some((_, at)) = causes.iter_mut().find(|(known, _)| *known == cause) {
            let was_quiet = is_over(at);
            *at = now.max(*at);
            return was_quiet;
        }
        causes.retain(|(_, at)| !is_over(at));
        let has_room = causes.len() < CAUSES;
        if has_room {
            causes.push((cause, now));
        }
        has_room
    }
}

/// How long something has not happened before it is told again: as long as a person needs to
/// read of it.
const QUIET: Duration = Duration::from_secs(60);

/// How many causes of the same thing are told apart at a time. Where each says something else, such
/// as the number of its request, so many are enough to see that.
const CAUSES: usize = 8;

/// A hash of what a cause says, without writing it down.
fn hash_of(cause: impl fmt::Display) -> u64 {
    let mut hash = Hash(DefaultHasher::new());
    // What cannot be shown is as much as it showed.
    let _ = write!(hash, "{cause}");
    hash.0.finish()
}

struct Hash(DefaultHasher);

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::read;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_cause_is_news_once_and_again_after_a_minute_without_it() {
        let (told, start) = (Told::default(), read());

        assert!(told.is_news(1, "a", start));
        assert!(!told.is_news(1, "a", start + 59 * SECOND));
        assert!(told.is_news(1, "b", start + 59 * SECOND), "another cause");
        assert!(told.is_news(2, "a", start + 59 * SECOND), "another thing");
        assert!(!told.is_news(1, "a", start + 118 * SECOND), "59 seconds after the last");
        assert!(told.is_news(1, "a", start + 178 * SECOND));
    }

    #[test]
    fn of_causes_that_never_come_twice_eight_a_minute_are_news() {
        let (told, start) = (Told::default(), read());

        let news = |from: u32, at| (from..from + 100).filter(|id| told.is_news(1, id, at)).count();

        assert_eq!(news(0, start), 8);
        assert_eq!(news(100, start + 59 * SECOND), 0);
        assert_eq!(news(200, start + 60 * SECOND), 8);
        assert!(!told.is_news(1, 200, start + 61 * SECOND), "it is known");
    }
}
