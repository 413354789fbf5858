use std::{
    num::NonZeroU32,
    sync::PoisonError,
    task::Waker,
    time::{Duration, Instant},
};

use super::{
    Ask, Origin,
    limits::{Limits, Shortage, Standing},
    origin::nanos,
    queue::{Entry, Peek, Place, Queue, Turn, Woken},
    scale::{Answer, LATE, Parts},
};
use crate::{
    Rate,
    atomic::{AtomicU64, Ordering},
    cells::Padded,
    sync::Mutex,
};

/// One bucket, or several that all must have enough.
///
/// While nobody waits, a decision is a load and a compare-and-swap of one word. Several limits,
/// and all else that happens to a bucket, take a lock; a bit of the word says that it is held, so
/// whoever wants the word meanwhile goes to the lock as well.
///
/// ```
/// use std::{num::NonZeroU32, time::{Duration, Instant}};
/// use buttress_core::{Rate, rate_limit::{Ask, Limiter}};
///
/// let limiter = Limiter::new([Rate::per_second(2.try_into().unwrap())]);
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let start = Instant::now();
///
/// assert!(limiter.take(Ask::one(), start).is_ok());
/// assert!(limiter.take(Ask::one(), start).is_ok());
/// let short = limiter.take(Ask::one(), start).unwrap_err();
/// assert_eq!(short.retry_after(), Some(Duration::from_millis(500)));
/// assert!(limiter.take(Ask::one(), start + Duration::from_millis(500)).is_ok());
/// ```
#[derive(Debug)]
pub struct Limiter {
    origin: Origin,
    /// When the first bucket is full again, and [`LOCKED`].
    word: Padded<AtomicU64>,
    published: Published,
    behind: Mutex<Behind>,
}

/// What stands behind the lock.
#[derive(Debug)]
struct Behind {
    limits: Limits,
    /// One for each limit. That of the first counts only while the lock is held.
    words: Box<[u64]>,
    queue: Queue,
    /// What the word has been at the most.
    highest: u64,
    /// How often its ticks have begun anew.
    rounds: u64,
}

/// The word must not be changed without the lock.
const LOCKED: u64 = 1 << 63;

/// The tick past which no rate begins.
const HALF: u64 = LATE / 2;

impl Limiter {
    /// Full buckets, one for each rate.
    ///
    /// # Panics
    ///
    /// Without a rate.
    #[must_use]
    pub fn new(rates: impl IntoIterator<Item = Rate>) -> Self {
        let limits = Limits::new(rates);
        let first = limits.scales().first().expect("a limit has a rate").parts;
        let words = vec![0; limits.scales().len()].into_boxed_slice();
        let locked = if words.len() > 1 { LOCKED } else { 0 };
        let behind = Behind { limits, words, queue: Queue::default(), highest: 0, rounds: 0 };
        Self {
            origin: Origin::default(),
            word: Padded(AtomicU64::new(locked)),
            published: Published::new(&first),
            behind: Mutex::new(behind),
        }
    }

    /// Takes what is asked for, or nothing.
    ///
    /// A `now` earlier than one seen before mints nothing; the wait is only longer.
    ///
    /// # Errors
    ///
    /// When there is not enough, or somebody waits for it.
    #[inline]
    pub fn take(&self, ask: Ask, now: Instant) -> Result<(), Shortage> {
        let now = self.origin.nanos(now);
        match self.try_take(ask, now) {
            Ok(true) => Ok(()),
            Ok(false) | Err(Short) => match self.enter(ask, None, now) {
                Entry::Refused(shortage) => Err(shortage),
                _ => Ok(()),
            },
        }
    }

    /// Takes what is asked for, or joins those who wait for it, for `patience` at the most. Who
    /// would have to wait for longer is refused at once.
    #[inline]
    pub fn take_or_wait(&self, ask: Ask, patience: Duration, now: Instant) -> Entry {
        let now = self.origin.nanos(now);
        match self.try_take(ask, now) {
            Ok(true) => Entry::Admitted,
            Ok(false) | Err(Short) => self.enter(ask, Some(nanos(patience)), now),
        }
    }

    /// Takes what is asked for though it is not there yet, if it will be within `patience`; as if
    /// it had been waited for. Returns the wait.
    ///
    /// # Errors
    ///
    /// When it would take longer.
    pub fn take_ahead(
        &self,
        ask: Ask,
        patience: Duration,
        now: Instant,
    ) -> Result<Duration, Shortage> {
        let mut woken = Woken::default();
        let taken = self.take_ahead_quietly(ask, patience, now, &mut woken);
        woken.wake();
        taken
    }

    /// As [`take_ahead`](Self::take_ahead), for a caller that holds a lock of its own: it wakes
    /// those who are `woken` when it does not any more.
    ///
    /// # Errors
    ///
    /// When it would take longer.
    pub fn take_ahead_quietly(
        &self,
        ask: Ask,
        patience: Duration,
        now: Instant,
        woken: &mut Woken,
    ) -> Result<Duration, Shortage> {
        let now = self.origin.nanos(now);
        self.lock_quietly(now, woken, |Behind { limits, words, .. }, _| {
            limits.take_ahead(words, now, ask, nanos(patience))
        })
    }

    /// As [`take_or_wait`](Self::take_or_wait), or without `patience` as [`take`](Self::take), for
    /// a caller that holds a lock of its own: it wakes those who are `woken` when it does not any
    /// more.
    pub fn enter_quietly(
        &self,
        ask: Ask,
        patience: Option<Duration>,
        now: Instant,
        woken: &mut Woken,
    ) -> Entry {
        let now = self.origin.nanos(now);
        if let Ok(true) = self.try_take(ask, now) {
            return Entry::Admitted;
        }
        self.lock_quietly(now, woken, |Behind { limits, words, queue, .. }, woken| {
            queue.enter(ask, patience.map(nanos), (limits, words), now, woken)
        })
    }

    /// Why what is asked for could not be taken right now; `None` if it could. Takes nothing, and
    /// is for a caller that holds a lock of its own, as [`enter_quietly`](Self::enter_quietly).
    pub fn shortage_quietly(&self, ask: Ask, now: Instant, woken: &mut Woken) -> Option<Shortage> {
        let now = self.origin.nanos(now);
        self.lock_quietly(now, woken, |Behind { limits, words, queue, .. }, _| {
            queue.shortage(ask, limits, words, now)
        })
    }

    /// What has become of a place: `waker` is woken when it is worth asking again, or it is
    /// [`Turn::Wait`]'s instant.
    ///
    /// # Panics
    ///
    /// If it has been told before that its wait is over.
    pub fn ask(&self, place: Place, now: Instant, waker: &Waker) -> Turn<Instant> {
        let (instant, now) = (now, self.origin.nanos(now));
        let mut waker = Some(waker.clone());
        let turn = self.lock(now, |Behind { limits, words, queue, .. }, _| {
            queue.ask(place, limits, words, now, &mut waker)
        });
        match turn {
            Turn::Admitted => Turn::Admitted,
            Turn::Refused(shortage) => Turn::Refused(shortage),
            Turn::Wait(until) => {
                // As far ahead as the clock can count.
                let until = instant.checked_add(Duration::from_nanos(until.saturating_sub(now)));
                Turn::Wait(until.unwrap_or(instant))
            }
        }
    }

    /// Gives a place up, or what it has been given and will not use.
    pub fn leave(&self, place: Place, now: Instant) {
        let now = self.origin.nanos(now);
        let waker = self.lock(now, |Behind { limits, words, queue, .. }, woken| {
            let waker = queue.leave(place, limits, words, now);
            queue.settle(limits, words, now, woken);
            waker
        });
        drop(waker);
    }

    /// Gives back `cost` events that turned out not to have happened. No bucket gets more than
    /// full.
    pub fn refund(&self, cost: NonZeroU32, now: Instant) {
        let now = self.origin.nanos(now);
        self.lock(now, |Behind { limits, words, queue, .. }, woken| {
            limits.give_back(words, now, u64::from(cost.get()));
            queue.settle(limits, words, now, woken);
        });
    }

    /// Empties all buckets.
    pub fn drain(&self, now: Instant) {
        let now = self.origin.nanos(now);
        self.lock(now, |Behind { limits, words, queue, .. }, woken| {
            limits.drain(words, now);
            queue.review(limits, words, now, woken);
        });
    }

    /// Sets another rate for one of the limits, in the order in which they were named. Buckets
    /// hold what they held, as far as it fits: a change is no burst. Who waits goes on waiting, if
    /// it is not hopeless now.
    ///
    /// # Panics
    ///
    /// If there are not so many limits.
    pub fn set_rate(&self, limit: usize, rate: Rate, now: Instant) {
        let now = self.origin.nanos(now);
        self.lock(now, |behind, woken| {
            self.renew(behind, limit, rate, now);
            let Behind { limits, words, queue, .. } = behind;
            queue.settle(limits, words, now, woken);
            queue.review(limits, words, now, woken);
        });
    }

    /// Sets a rate, and lets its ticks begin anew.
    fn renew(&self, behind: &mut Behind, limit: usize, rate: Rate, now: u64) {
        let Behind { limits, words, highest, rounds, .. } = behind;
        // Past all that the word has been: whoever holds an old word, and old parts, must not find
        // it again. After decades, or changes without number, there are no more such ticks, and
        // they begin anew, a tick later each time: somebody would have to sleep through all that
        // between a load and a swap, and to find the very tick.
        let next = (*highest).max(words[0]) + 1;
        *highest = if next < HALF {
            next
        } else {
            *rounds += 1;
            *rounds
        };
        let new = limits.with_rate(limit, rate, now, *highest);
        new.convert(words, now, limits);
        *limits = new;
        self.published.set(&limits.scales()[0].parts);
    }

    /// The rates in force.
    #[must_use]
    pub fn rates(&self) -> Vec<Rate> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).limits.rates().collect()
    }

    /// What a request would meet, and takes nothing.
    #[must_use]
    pub fn peek(&self, now: Instant) -> Peek {
        let now = self.origin.nanos(now);
        self.lock(now, |Behind { limits, words, queue, .. }, _| queue.peek(limits, words, now))
    }

    /// What each limit holds, in the order in which they were named.
    #[must_use]
    pub fn standings(&self, now: Instant) -> Vec<Standing> {
        let now = self.origin.nanos(now);
        self.lock(now, |Behind { limits, words, .. }, _| limits.standings(Some(words), now))
    }

    /// Takes without a lock; `Ok(false)` while somebody holds it or waits.
    #[inline]
    fn try_take(&self, ask: Ask, now: u64) -> Result<bool, Short> {
        // Acquire: parts are published before a word that was made with them.
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            if word & LOCKED != 0 {
                return Ok(false);
            }
            let Answer::Taken(full_at) = self.published.get().ask(word, now, ask, 0) else {
                // Perhaps by parts that are being changed: the lock knows.
                return Err(Short);
            };
            // The parts were those of the word, if it is what it was: no word comes twice under
            // different parts. Release and Acquire for them.
            let swapped = self.word.0.compare_exchange_weak(
                word,
                full_at,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match swapped {
                Ok(_) => return Ok(true),
                Err(now_there) => word = now_there,
            }
        }
    }

    /// Decides behind the lock. Without `patience` nobody waits.
    #[cold]
    fn enter(&self, ask: Ask, patience: Option<u64>, now: u64) -> Entry {
        self.lock(now, |Behind { limits, words, queue, .. }, woken| {
            queue.enter(ask, patience, (limits, words), now, woken)
        })
    }

    /// Works on the buckets while nobody else does, once all whose time has come are let in.
    fn lock<T>(&self, now: u64, work: impl FnOnce(&mut Behind, &mut Woken) -> T) -> T {
        let mut woken = Woken::default();
        let done = self.lock_quietly(now, &mut woken, work);
        woken.wake();
        done
    }

    fn lock_quietly<T>(
        &self,
        now: u64,
        woken: &mut Woken,
        work: impl FnOnce(&mut Behind, &mut Woken) -> T,
    ) -> T {
        let behind = &mut *self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        // From here on the word stays what it is.
        let word = self.word.0.fetch_or(LOCKED, Ordering::AcqRel) & !LOCKED;
        behind.words[0] = word;
        behind.highest = behind.highest.max(word);
        let open = Open { word: &self.word.0, behind };
        while let Some((limit, rate)) = open.behind.limits.worn_out(now) {
            self.renew(open.behind, limit, rate, now);
        }
        let Behind { limits, words, queue, .. } = &mut *open.behind;
        queue.settle(limits, words, now, woken);
        work(open.behind, woken)
    }
}

/// What is open while its lock is held. Closes also if something panics: what was taken until then
/// stays taken.
struct Open<'a> {
    word: &'a AtomicU64,
    behind: &'a mut Behind,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let Behind { words, queue, highest, .. } = &mut *self.behind;
        *highest = (*highest).max(words[0]);
        let stays = words.len() > 1 || !queue.is_empty();
        let locked = if stays { LOCKED } else { 0 };
        self.word.store(words[0] | locked, Ordering::Release);
    }
}

/// There is not enough.
#[derive(Debug)]
struct Short;

/// The [`Parts`] of the first limit, for those without the lock.
#[derive(Debug)]
struct Published([AtomicU64; 7]);

impl Published {
    fn new(parts: &Parts) -> Self {
        Self(Self::words(parts).map(AtomicU64::new))
    }

    fn set(&self, parts: &Parts) {
        for (cell, word) in self.0.iter().zip(Self::words(parts)) {
            // Release, against the Acquire of `get`: who reads a new part reads, or swaps, the
            // bucket's word only as it has been since the lock was taken.
            cell.store(word, Ordering::Release);
        }
    }

    #[inline]
    fn get(&self) -> Parts {
        let [event, burst, whole, high, low, tick, nanos] =
            std::array::from_fn(|index| self.0[index].load(Ordering::Acquire));
        let rest = u128::from(high) << 64 | u128::from(low);
        Parts { event, burst, whole, rest, first: (tick, nanos) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "halves of 64 bits")]
    fn words(parts: &Parts) -> [u64; 7] {
        let Parts { event, burst, whole, rest, first: (tick, nanos) } = *parts;
        [event, burst, whole, (rest >> 64) as u64, rest as u64, tick, nanos]
    }
}
