use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{
    Facts,
    fallback::{Claim, Passage, Skip},
    http::{Asked, Entry, Replayable, StaleCache, Tape},
};

use super::Rung;
use crate::{
    clock::read,
    fallback::ladder::{Aged, Guide, Step},
};

/// A rung with the last good response.
#[derive(Clone, Debug)]
pub struct Stale(pub(in crate::fallback) StaleCache);

/// What is kept of a request that takes part.
pub struct StaleKept {
    asked: Option<Asked>,
    /// That this call looks, for all others of its key, whether the service is well again.
    probe: Option<(StaleCache, Claim)>,
}

impl StaleKept {
    fn probe_is_over(&mut self) {
        if let (Some((cache, claim)), Some(asked)) = (self.probe.take(), &self.asked) {
            cache.left(asked, claim);
        }
    }
}

impl Drop for StaleKept {
    fn drop(&mut self) {
        self.probe_is_over();
    }
}

impl<Request, Response, Error, X> Rung<Request, Response, Error, X> for Stale
where
    X: Replayable<Request, Response>,
{
    type Kept = StaleKept;
    type Run = ();

    fn keep(&self, exchange: &X, request: Request, facts: Facts, _: usize) -> (Request, StaleKept) {
        let asked = exchange.asked(&self.0, &request, facts);
        (request, StaleKept { asked, probe: None })
    }

    fn at_once(&self, kept: &mut StaleKept, exchange: &X) -> Option<(X::Answer, Aged)> {
        let asked = kept.asked.as_ref()?;
        if !self.0.probes_alone() {
            return None;
        }
        let now = read();
        match self.0.pass(asked, now) {
            Passage::Free => None,
            Passage::Probe(claim) => {
                kept.probe = Some((self.0.clone(), claim));
                None
            }
            // Where nothing is stored for just this request, it goes on like the first one.
            Passage::Held => {
                let Entry { stored, age, stale } = self.0.find(asked, now).ok()?;
                Some((exchange.play(&stored), Some((age, stale))))
            }
        }
    }

    fn went_well(&self, kept: &mut StaleKept, exchange: &X, response: &Response) -> Option<Tape> {
        let tape = exchange.store(&self.0, kept.asked.as_ref()?, response, read());
        Rung::<Request, Response, Error, X>::settle(self, kept, false);
        tape
    }

    fn settle(&self, kept: &mut StaleKept, failed: bool) {
        if let Some(asked) = &kept.asked {
            if failed {
                self.0.failed(asked);
            } else {
                self.0.went_well(asked);
            }
        }
        kept.probe_is_over();
    }

    fn set_out(&self, _: &mut StaleKept, _: &Guide<'_, X>) -> Result<(), Skip> {
        Ok(())
    }

    fn poll(
        &self,
        _: Pin<&mut ()>,
        kept: &mut StaleKept,
        guide: &Guide<'_, X>,
        _: &mut Context<'_>,
    ) -> Poll<Step<X::Answer>> {
        let found = kept.asked.as_ref().ok_or(Skip::NotStored);
        Poll::Ready(match found.and_then(|asked| self.0.find(asked, read())) {
            Ok(Entry { stored, age, stale }) => {
                Step::Answered(guide.exchange.play(&stored), Some((age, stale)))
            }
            Err(skip) => Step::Skipped(skip),
        })
    }
}

impl fmt::Debug for StaleKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaleKept").field("probes", &self.probe.is_some()).finish_non_exhaustive()
    }
}
