use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
};

/// What a [`Probe`](crate::Probe) does with one call.
#[derive(Debug)]
pub enum Step<Res, E> {
    /// Answers at the first poll, as its closure says. The step of all calls that have no other.
    Answer,
    /// Answers at the first poll, so.
    Reply(Result<Res, E>),
    /// Answers after [`ProbeHandle::release`], as its closure says.
    Hang,
    /// Panics in `call`.
    PanicInCall,
    /// Panics when the response is polled.
    PanicInPoll,
}

/// What was done to a [`Probe`](crate::Probe) that Tower's contract forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misuse {
    /// `call` on an instance that had not been found ready since it was made or last called.
    CalledUnready {
        /// The instance.
        instance: u64,
    },
    /// A response was polled after it had been ready.
    PolledAfterCompletion {
        /// The instance that was called.
        instance: u64,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CalledUnready { instance } => {
                write!(f, "instance {instance} was called, and had not been found ready")
            }
            Self::PolledAfterCompletion { instance } => {
                write!(f, "a response of instance {instance} was polled after it was ready")
            }
        }
    }
}

/// What happened to a [`Probe`](crate::Probe) and all its clones so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls of `poll_ready`.
    pub ready_polls: u64,
    /// Calls of `clone`.
    pub clones: u64,
    /// Instances that there are.
    pub instances: u64,
    /// Calls.
    pub calls: u64,
    /// Calls that were neither answered nor dropped.
    pub in_flight: u64,
    /// Calls that were answered, or failed.
    pub answered: u64,
    /// Calls whose response was dropped before it was there.
    pub abandoned: u64,
    /// Calls that panicked.
    pub panicked: u64,
}

/// Reads a [`Probe`](crate::Probe) and moves it, wherever its instances are.
pub struct ProbeHandle<Req, Res, E> {
    pub(crate) shared: Arc<Shared<Req, Res, E>>,
}

impl<Req, Res, E> ProbeHandle<Req, Res, E> {
    /// Adds a step to the script: for the first call that has none yet.
    pub fn then(&self, step: Step<Res, E>) {
        self.shared.lock().script.push_back(step);
    }

    /// Forgets the steps that no call has taken.
    pub fn clear(&self) {
        let steps = std::mem::take(&mut self.shared.lock().script);
        drop(steps);
    }

    /// Lets no instance become ready. Those that are ready stay it until they are called.
    pub fn busy(&self) {
        self.shared.lock().busy = true;
    }

    /// Lets all instances become ready, and wakes those that wait for it.
    pub fn ready(&self) {
        self.shared.lock().busy = false;
        self.wake();
    }

    /// Wakes the instances that wait to become ready, whether they can or not.
    pub fn wake(&self) {
        let waiting = std::mem::take(&mut self.shared.lock().waiting);
        waiting.into_values().for_each(Waker::wake);
    }

    /// Lets the next `poll_ready` fail, and wakes the instances that wait.
    pub fn fail_ready(&self, error: E) {
        self.shared.lock().broken = Some(error);
        self.wake();
    }

    /// Answers the calls that hang.
    pub fn release(&self) {
        let hanging = {
            let mut state = self.shared.lock();
            state.releases += 1;
            std::mem::take(&mut state.hanging)
        };
        hanging.into_iter().for_each(Waker::wake);
    }

    /// What happened so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.lock().tally
    }

    /// What was done that should not have been.
    #[must_use]
    pub fn misuses(&self) -> Vec<Misuse> {
        self.shared.lock().misuses.clone()
    }

    /// The instance that was called last.
    #[must_use]
    pub fn last_called(&self) -> Option<u64> {
        self.shared.lock().last_called
    }

    /// The instances that wait to become ready.
    #[must_use]
    pub fn waiting(&self) -> Vec<u64> {
        self.shared.lock().waiting.keys().copied().collect()
    }
}

impl<Req, Res, E> Clone for ProbeHandle<Req, Res, E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<Req, Res, E> fmt::Debug for ProbeHandle<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeHandle")
            .field("tally", &self.tally())
            .field("misuses", &self.misuses())
            .finish_non_exhaustive()
    }
}

/// What all instances share.
pub(crate) struct Shared<Req, Res, E> {
    pub(crate) respond: Box<dyn Fn(Req) -> Res + Send + Sync>,
    state: Mutex<State<Res, E>>,
}

pub(crate) struct State<Res, E> {
    pub(crate) tally: Tally,
    pub(crate) misuses: Vec<Misuse>,
    pub(crate) last_called: Option<u64>,
    pub(crate) script: VecDeque<Step<Res, E>>,
    pub(crate) busy: bool,
    pub(crate) broken: Option<E>,
    /// One waker per instance, as the contract has it: the last one counts.
    pub(crate) waiting: BTreeMap<u64, Waker>,
    pub(crate) hanging: Vec<Waker>,
    pub(crate) releases: u64,
}

impl<Req, Res, E> Shared<Req, Res, E> {
    pub(crate) fn new(respond: Box<dyn Fn(Req) -> Res + Send + Sync>) -> Self {
        let state = State {
            tally: Tally { instances: 1, ..Tally::default() },
            misuses: Vec::new(),
            last_called: None,
            script: VecDeque::new(),
            busy: false,
            broken: None,
            waiting: BTreeMap::new(),
            hanging: Vec::new(),
            releases: 0,
        };
        Self { respond, state: Mutex::new(state) }
    }

    /// Never held while something is woken, answered or unwound.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<Res, E>> {
        self.state.lock().expect("nothing panics while it is held")
    }
}
