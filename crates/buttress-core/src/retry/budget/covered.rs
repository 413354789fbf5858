use std::cell::Cell;

thread_local! {
    /// The budget that knows of the request whose `call`, or `poll`, is on this thread's stack; 0
    /// for none.
    static COVERED: Cell<usize> = const { Cell::new(0) };
}

/// That a [`Budget`](super::Budget) knows of a request, said without the budget at hand.
///
/// A layer that waits in its future calls on inside of a later poll: so who has noted a request
/// covers its `call`, and each poll of what that returned.
///
/// ```
/// use buttress_core::{Ratio, retry::Budget};
///
/// let budget = Budget::percent(20);
/// let known = budget.known();
/// {
///     let _covered = known.cover();
///     assert!(budget.is_covered());
/// }
/// assert!(!budget.is_covered());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known(pub(super) usize);

impl Known {
    /// Lets layers further in know, for one `call` or `poll` of what is inside.
    #[inline]
    pub fn cover(self) -> Covered {
        Covered { outer: COVERED.replace(self.0) }
    }
}

/// The scope of one `call` or `poll` of which a [`Budget`](super::Budget) knows already.
///
/// ```
/// use std::time::Instant;
/// use buttress_core::{Ratio, retry::{Budget, Percentage}};
///
/// # #[expect(clippy::disallowed_methods, reason = "an origin for an invented clock")]
/// let now = Instant::now();
/// let budget = Budget::from(Percentage::new(Ratio::ONE).floor(0));
/// let _started = budget.begin(now);
/// {
///     let _covered = budget.cover();
///     // A layer further in that shares the budget.
///     let _again = budget.begin(now);
/// }
///
/// assert_eq!(budget.balance(now), Some(1));
/// ```
#[derive(Debug)]
#[must_use = "the scope ends when this is dropped"]
pub struct Covered {
    outer: usize,
}

impl Drop for Covered {
    #[inline]
    fn drop(&mut self) {
        COVERED.set(self.outer);
    }
}

#[inline]
pub(super) fn is_by(budget: usize) -> bool {
    budget != 0 && COVERED.get() == budget
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use crate::{
        Ratio,
        retry::{Budget, InFlight, Tokens},
    };

    #[test]
    fn a_budget_covers_itself_and_no_other_and_only_for_as_long_as_it_says() {
        let (one, other) = (Budget::from(Tokens::new(10)), Budget::from(InFlight::new(Ratio::ONE)));

        let outer = one.cover();
        assert!(one.clone().is_covered() && !other.is_covered());
        let inner = other.cover();
        assert!(!one.is_covered() && other.is_covered());
        drop(inner);
        assert!(one.is_covered());
        drop(outer);

        assert!(!one.is_covered());
        assert!(!Budget::unlimited().is_covered());
    }
}
