//! What one process holds of one bucket of the fleet. Decides only: time is in nanoseconds.

use std::{task::Waker, time::Duration};

use buttress_core::rate_limit::Ask;

use crate::{Debt, Lease, Scale, Take, scale::wait, store::MOST};

/// Tokens that are leased, and what is known of the bucket that they come from.
#[derive(Debug, Default)]
pub struct Purse {
    /// Those that lapse sooner come first.
    batches: [Batch; 2],
    /// What has lapsed since that was last counted.
    lapsed: u32,
    known: Option<Known>,
    /// Somebody asks the store for more.
    carried: bool,
    /// The driver has been told to.
    wanted: bool,
    /// Who waits for what is carried, and how often it has been put down.
    waiting: Vec<Waker>,
    put_down: u64,
    /// What was asked for since the last batch, when that was, and how large.
    asked: u64,
    since: u64,
    size: u32,
    /// How much is carried, and before when there is no sense in asking for more.
    carrying: u32,
    paced: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    left: u32,
    until: u64,
}

/// How long nobody asks who was last granted less than was asked for: tokens that come one by one
/// would else be fetched one by one. A hundred round trips a second; and no longer than a quarter of
/// the burst takes, so that nothing is lost.
const PACE: u64 = 10_000_000;

/// Where somebody waits: when it was put down so often, and who is that in the row.
pub(crate) type Place = (u64, usize);

/// What the store said of the bucket, and when that was heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) debts: [Debt; MOST],
    pub(crate) at: u64,
}

/// What a purse says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Enough, and whether it is time to ask for more.
    Enough { low: bool },
    /// The fleet's bucket has not enough either, for so long at least.
    Dry(Duration),
    /// Ask the store for this, and give it to the purse.
    Ask(Take),
    /// Somebody asks already.
    Wait,
    /// Ask the store for this request alone.
    Alone,
}

impl Purse {
    /// Takes for a request, or says what is to be done.
    #[cfg(test)]
    pub(crate) fn take(
        &mut self,
        ask: Ask,
        reserve: u32,
        lease: &Lease,
        scales: &[Scale],
        now: u64,
    ) -> Said {
        self.take_ready(ask, now).unwrap_or_else(|| self.again(ask, reserve, lease, scales, now))
    }

    /// Counts a request, and takes for it if there is enough; else [`again`](Self::again) says what
    /// is to be done.
    #[inline]
    pub(crate) fn take_ready(&mut self, ask: Ask, now: u64) -> Option<Said> {
        let cost = ask.weight().get();
        self.asked = self.asked.saturating_add(cost.into());
        let left = self.left(now);
        self.enough(cost, left)
    }

    #[inline]
    fn enough(&mut self, cost: u32, left: u32) -> Option<Said> {
        let rest = left.checked_sub(cost)?;
        self.spend(cost);
        let low = !self.carried && !self.wanted && rest <= self.size / 2;
        Some(Said::Enough { low })
    }

    /// Takes for a request that may have what others may not: of what is held, or alone.
    pub(crate) fn take_held(&mut self, ask: Ask, now: u64) -> Said {
        let cost = ask.weight().get();
        if self.left(now) < cost {
            return Said::Alone;
        }
        self.asked = self.asked.saturating_add(cost.into());
        self.spend(cost);
        Said::Enough { low: false }
    }

    /// Takes for a request that has been counted, or says what is to be done.
    pub(crate) fn again(
        &mut self,
        ask: Ask,
        reserve: u32,
        lease: &Lease,
        scales: &[Scale],
        now: u64,
    ) -> Said {
        let (cost, left) = (ask.weight().get(), self.left(now));
        if let Some(enough) = self.enough(cost, left) {
            return enough;
        }
        let kept = ask.kept().max(reserve);
        let needed = Ask::cost((cost - left).try_into().expect("more than there is"));
        if let Some(dry) = self.dry(needed.leaving(kept), lease, scales, now) {
            return Said::Dry(dry);
        }
        if self.carried {
            return Said::Wait;
        }
        let size = self.begin(lease, now);
        let most = size.min(lease.most().get().saturating_sub(left)).max(cost - left);
        (self.carried, self.carrying) = (true, most);
        Said::Ask(Take { least: cost - left, most, left: kept })
    }

    /// What to ask for before anybody has to wait; nothing if it is not low any more, or known to
    /// be in vain.
    pub(crate) fn ahead(
        &mut self,
        reserve: u32,
        lease: &Lease,
        scales: &[Scale],
        now: u64,
    ) -> Option<Take> {
        self.wanted = false;
        let left = self.left(now);
        let room = lease.most().get().saturating_sub(left);
        let dry = self.dry(Ask::one().leaving(reserve), lease, scales, now).is_some();
        if self.carried || room == 0 || left > self.size / 2 || dry {
            return None;
        }
        let most = self.begin(lease, now).min(room);
        (self.carried, self.carrying) = (true, most);
        Some(Take { least: 1, most, left: reserve })
    }

    /// Whether the driver has to be told, which it then is.
    pub(crate) fn want(&mut self) -> bool {
        !std::mem::replace(&mut self.wanted, true)
    }

    /// Takes note of what was granted. How much of what was held before has lapsed.
    pub(crate) fn receive(
        &mut self,
        granted: u32,
        debts: [Debt; MOST],
        until: u64,
        now: u64,
    ) -> u32 {
        if granted < self.carrying {
            self.paced = now.saturating_add(PACE);
        }
        self.known = Some(Known { debts, at: now });
        self.left(now);
        let lapsed = std::mem::take(&mut self.lapsed);
        let [first, second] = &mut self.batches;
        if first.left == 0 {
            *first = Batch { left: granted, until };
        } else if second.left == 0 {
            *second = Batch { left: granted, until };
        } else {
            // Both lapse with the one that does so first.
            *second = Batch { left: second.left + granted, until: second.until.min(until) };
        }
        lapsed
    }

    /// Takes for the request that carried a batch.
    pub(crate) fn take_received(&mut self, cost: u32, now: u64) -> bool {
        let enough = self.left(now) >= cost;
        if enough {
            self.spend(cost);
        }
        enough
    }

    /// Nobody carries any more. Who waited is to be woken.
    #[must_use]
    pub(crate) fn put_down(&mut self) -> Vec<Waker> {
        self.carried = false;
        self.put_down += 1;
        std::mem::take(&mut self.waiting)
    }

    /// Whether somebody asks for a batch.
    pub(crate) fn is_carried(&self) -> bool {
        self.carried
    }

    /// Wakes `waker` when what is carried has come. Its place is kept for it, so that nobody has
    /// to be looked for.
    pub(crate) fn wait(&mut self, place: &mut Option<Place>, waker: &Waker) {
        match *place {
            Some((put_down, index)) if put_down == self.put_down => {
                self.waiting[index].clone_from(waker);
            }
            _ => {
                *place = Some((self.put_down, self.waiting.len()));
                self.waiting.push(waker.clone());
            }
        }
    }

    /// Hands over what is held, to be given back, and says what has lapsed.
    pub(crate) fn empty(&mut self, now: u64) -> (u32, u32) {
        let left = self.left(now);
        self.batches = [Batch::default(); 2];
        (left, std::mem::take(&mut self.lapsed))
    }

    /// How much is lost with it, whatever time it is.
    pub(crate) fn throw_away(&mut self) -> u32 {
        let (left, lapsed) = self.empty(0);
        left + lapsed
    }

    pub(crate) fn known(&self) -> Option<Known> {
        self.known
    }

    /// How many tokens are held. What has lapsed is thrown away.
    pub(crate) fn left(&mut self, now: u64) -> u32 {
        for batch in &mut self.batches {
            if batch.until <= now {
                self.lapsed = self.lapsed.saturating_add(batch.left);
                batch.left = 0;
            }
        }
        if self.batches[0].left == 0 {
            self.batches.swap(0, 1);
        }
        self.batches[0].left + self.batches[1].left
    }

    fn spend(&mut self, mut cost: u32) {
        for batch in &mut self.batches {
            let some = batch.left.min(cost);
            batch.left -= some;
            cost -= some;
        }
    }

    /// How long the fleet's bucket has not enough for sure: what was left of it when it was last heard
    /// of, and what it yields, which others can only make less. What others give back is not known of,
    /// so the store is asked again after as long as a lease lasts.
    fn dry(&self, ask: Ask, lease: &Lease, scales: &[Scale], now: u64) -> Option<Duration> {
        let known = self.known?;
        let ago = Duration::from_nanos(now.saturating_sub(known.at));
        if ago >= lease.lasts().get() {
            return None;
        }
        let paced = Duration::from_nanos(self.paced.saturating_sub(now));
        let fill = scales.iter().map(Scale::fills_in).min().unwrap_or_default();
        let rest = wait(scales, &known.debts, ago, ask)?.max(paced.min(fill / 4));
        Some(rest).filter(|rest| !rest.is_zero())
    }

    /// Sizes a batch, and begins to count for the next.
    fn begin(&mut self, lease: &Lease, now: u64) -> u32 {
        let over = Duration::from_nanos(now.saturating_sub(self.since));
        self.size = lease.size(self.asked, over, self.size.max(1));
        (self.asked, self.since) = (0, now);
        self.size
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use buttress_core::{Rate, TimeLimit};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn n(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    fn scales() -> [Scale; 1] {
        [Scale::new(Rate::per_second(n(100)))]
    }

    fn lease() -> Lease {
        Lease::new(n(10)).lasting(TimeLimit::from_secs(1))
    }

    fn take(purse: &mut Purse, cost: u32, now: u64) -> Said {
        purse.take(Ask::cost(n(cost)), 0, &lease(), &scales(), now)
    }

    #[test]
    fn one_asks_for_all_and_the_others_wait_for_it() {
        let mut purse = Purse::default();

        let first = take(&mut purse, 1, SECOND);
        let second = take(&mut purse, 1, SECOND);
        purse.receive(2, [Debt::default(); MOST], 2 * SECOND, SECOND);
        let woken = purse.put_down();
        let third = purse.again(Ask::one(), 0, &lease(), &scales(), SECOND);

        assert!(matches!(first, Said::Ask(Take { least: 1, .. })), "{first:?}");
        assert_eq!((second, woken.len()), (Said::Wait, 0));
        assert!(matches!(third, Said::Enough { .. }), "{third:?}");
    }

    #[test]
    fn tokens_lapse_at_the_very_end_of_their_lease() {
        let mut purse = Purse::default();
        purse.receive(5, [Debt::default(); MOST], SECOND, 0);
        purse.receive(3, [Debt::default(); MOST], 2 * SECOND, 0);

        let before = purse.left(SECOND - 1);
        let after = purse.left(SECOND);
        let at_last = purse.left(2 * SECOND);

        assert_eq!((before, after, at_last), (8, 3, 0));
    }

    #[test]
    fn no_process_holds_more_than_it_may_and_only_what_is_missing_is_asked_for() {
        let mut purse = Purse { size: 100, ..Purse::default() };
        purse.receive(4, [Debt::default(); MOST], 9 * SECOND, 0);

        let costly = take(&mut purse, 9, 1);

        assert_eq!(costly, Said::Ask(Take { least: 5, most: 6, left: 0 }));
    }

    #[test]
    fn a_bucket_known_to_be_dry_is_not_asked_until_it_can_have_enough() {
        let (mut purse, scale) = (Purse::default(), scales()[0]);
        let mut debts = [Debt::default(); MOST];
        debts[0] = scale.debt(scale.weight(100));
        purse.receive(0, debts, 0, 0);

        let at_once = take(&mut purse, 1, 0);
        let nearly = take(&mut purse, 1, 9_999_999);
        let two = take(&mut purse, 2, 10_000_000);
        let then = take(&mut purse, 1, 10_000_000);

        assert_eq!(at_once, Said::Dry(Duration::from_millis(10)));
        assert_eq!(nearly, Said::Dry(Duration::from_micros(1)));
        assert_eq!(two, Said::Dry(Duration::from_millis(10)));
        assert!(matches!(then, Said::Ask(_)), "{then:?}");
    }

    #[test]
    fn half_of_a_batch_gone_more_is_asked_for_ahead_once() {
        let mut purse = Purse { size: 8, ..Purse::default() };
        purse.receive(8, [Debt::default(); MOST], 9 * SECOND, 0);

        let low: Vec<_> = (0..5).map(|_| take(&mut purse, 1, 1)).collect();
        let ahead = purse.ahead(0, &lease(), &scales(), 1);
        let again = purse.ahead(0, &lease(), &scales(), 1);

        let expected = [false, false, false, true, true].map(|low| Said::Enough { low });
        assert_eq!(low, expected);
        assert_eq!(ahead, Some(Take { least: 1, most: 7, left: 0 }));
        assert_eq!(again, None);
    }
}
