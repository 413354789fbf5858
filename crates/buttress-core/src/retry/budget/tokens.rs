use crate::{
    Ratio,
    atomic::{AtomicU64, Ordering},
};

/// Tokens that failures cost and successes earn back: retries stop while half of them or more are
/// gone ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md)).
///
/// It looks at how calls end and not at how many there are, so it stops at once when most fail,
/// and comes back as slowly as its ratio says.
///
/// ```
/// use buttress_core::{Ratio, retry::{Budget, Tokens}};
///
/// let budget = Budget::from(Tokens::new(10).ratio(Ratio::percent(50)));
/// (0..5).for_each(|_| budget.failed());
/// assert_eq!(budget.balance(std::time::Instant::now()), Some(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Tokens {
    most: u32,
    ratio: Ratio,
}

impl Tokens {
    /// So many tokens, of which a success earns a tenth of one.
    ///
    /// # Panics
    ///
    /// If there are none. In a constant that is an error of the compiler.
    pub const fn new(most: u32) -> Self {
        assert!(most > 0, "without a token nothing is ever retried");
        Self { most, ratio: Ratio::percent(10) }
    }

    /// The share of a token that a success earns.
    pub const fn ratio(mut self, ratio: Ratio) -> Self {
        self.ratio = ratio;
        self
    }
}

/// Tokens in billionths.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: AtomicU64,
    most: u64,
    earned: u64,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    pub(super) fn new(tokens: Tokens) -> Self {
        let most = u64::from(tokens.most) * TOKEN;
        let earned = u64::from(tokens.ratio.parts_per_billion());
        Self { tokens: AtomicU64::new(most), most, earned }
    }

    #[inline]
    pub(super) fn succeeded(&self) {
        self.change(|tokens| tokens.saturating_add(self.earned).min(self.most));
    }

    pub(super) fn failed(&self) {
        self.change(|tokens| tokens.saturating_sub(TOKEN));
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        // Relaxed: the word is all there is, and nothing is published through it.
        let mut seen = self.tokens.load(Ordering::Relaxed);
        loop {
            let next = change(seen);
            // While all is well it stays full, and nobody fights over the line it is on.
            if next == seen {
                return;
            }
            match self.tokens.compare_exchange_weak(
                seen,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether fewer are gone than half of all, or than this share of that half.
    pub(super) fn allows(&self, of: Ratio) -> bool {
        self.tokens.load(Ordering::Relaxed) > self.threshold(of)
    }

    /// How many failures in a row would be retried.
    pub(super) fn balance(&self, of: Ratio) -> u64 {
        let above = self.tokens.load(Ordering::Relaxed).saturating_sub(self.threshold(of));
        above.div_ceil(TOKEN)
    }

    fn threshold(&self, of: Ratio) -> u64 {
        self.most - of.of(self.most / 2)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    // R06
    #[test]
    fn it_stops_and_starts_where_grpc_does() {
        const GOOD: [u32; 10] = [0, 3, 6, 10, 11, 12, 13, 14, 16, 18];
        let bucket = Bucket::new(Tokens::new(10).ratio(Ratio::percent(50)));
        let mut attempts = 0..;
        let mut seen = Vec::new();

        for _ in 0..12 {
            let (mut ok, mut last) = (false, 0);
            for tried in 1..=4 {
                last = attempts.next().unwrap();
                ok = GOOD.contains(&last);
                if ok {
                    bucket.succeeded();
                    break;
                }
                bucket.failed();
                if tried == 4 || !bucket.allows(Ratio::ONE) {
                    break;
                }
            }
            seen.push((ok, last, bucket.tokens.load(Ordering::Relaxed) / (TOKEN / 10)));
        }

        let expected = [
            (true, 0, 100),
            (true, 3, 85),
            (true, 6, 70),
            (false, 8, 50),
            (false, 9, 40),
            (true, 10, 45),
            (true, 11, 50),
            (true, 12, 55),
            (true, 13, 60),
            (true, 14, 65),
            (true, 16, 60),
            (false, 17, 50),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn it_never_goes_below_nothing_nor_above_its_most() {
        let bucket = Bucket::new(Tokens::new(3));
        (0..9).for_each(|_| bucket.failed());
        assert!(!bucket.allows(Ratio::ONE));
        (0..15).for_each(|_| bucket.succeeded());
        assert!(!bucket.allows(Ratio::ONE), "exactly half is not enough");
        bucket.succeeded();
        assert!(bucket.allows(Ratio::ONE));
        (0..99).for_each(|_| bucket.succeeded());
        assert_eq!(bucket.balance(Ratio::ONE), 2);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::{sync::Arc, thread};

    use super::*;

    #[test]
    fn loom_no_token_is_lost_or_made() {
        loom::model(|| {
            let bucket = Arc::new(Bucket::new(Tokens::new(4).ratio(Ratio::percent(50))));
            let other = Arc::clone(&bucket);
            let thread = thread::spawn(move || other.failed());
            bucket.failed();
            bucket.succeeded();
            thread.join().unwrap();

            // The success earns half a token after at least one failure, whatever the order.
            assert_eq!(bucket.tokens.load(Ordering::Relaxed), 2 * TOKEN + TOKEN / 2);
        });
    }
}
