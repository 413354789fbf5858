use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{Ordering, fence},
    },
    time::{Duration, SystemTime},
};

use buttress_core::Observe;
use buttress_slo::{
    AlertState, AlertStatus, Clocks, Composite, Counts, Coverage, Happening, Maintenance, Name,
    Numbers, Objective, Recorder, Severity, Signal, Signals, Standing, Target, Tracker,
    TrackerError, WindowCounts,
    gate::{Ask, Decision, decide},
    lint::{Lint, lint},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    SnapshotError, SnapshotFile, Start, clocks,
    keeper::{Keeper, Saved, lock},
    news::{Desk, News},
    reading::read,
};
use crate::kept_back::KeptBack;

/// Follows the objectives of one service.
///
/// See the [module docs](super) for an example.
#[derive(Clone)]
pub struct SloTracker {
    shared: Arc<Shared>,
}

struct Shared {
    service: Name,
    recorders: Box<[Arc<Recorder>]>,
    tracker: Mutex<Tracker>,
    clocks: Box<dyn Fn() -> Clocks + Send + Sync>,
    keeper: Keeper,
    desk: Desk,
}

impl SloTracker {
    /// Follows these objectives from now on, by the clocks of the machine.
    ///
    /// # Errors
    ///
    /// If two of them have the same name.
    pub fn new(
        service: Name,
        objectives: impl IntoIterator<Item = Objective>,
    ) -> Result<Self, TrackerError> {
        Self::with_clocks(service, objectives, clocks::system)
    }

    /// As [`SloTracker::new`], by other clocks: [`clocks::following`] in a test.
    ///
    /// They are read once for each tick, on the thread that ticks and without any lock held. They
    /// may ask a tracker for anything but to tick, which would ask them again: see
    /// [`SloTracker::tick`].
    ///
    /// # Errors
    ///
    /// If two of the objectives have the same name.
    pub fn with_clocks(
        service: Name,
        objectives: impl IntoIterator<Item = Objective>,
        clocks: impl Fn() -> Clocks + Send + Sync + 'static,
    ) -> Result<Self, TrackerError> {
        let tracker = Tracker::new(service.clone(), objectives, clocks())?;
        let shared = Shared {
            service,
            recorders: tracker.recorders().collect(),
            tracker: Mutex::new(tracker),
            clocks: Box::new(clocks),
            keeper: Keeper::new(),
            desk: Desk::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Takes several of its objectives as one.
    ///
    /// # Errors
    ///
    /// If its name is taken, or a part of it unknown, or none of them weighs anything.
    pub fn compose(&self, composite: Composite) -> Result<(), TrackerError> {
        self.lock().compose(composite)
    }

    /// Restores what is in `file`, and keeps to it from now on: at start, before traffic. It waits
    /// for the disk.
    ///
    /// What is there and of no use is set aside; that is no error, and [`Start`] says so.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, and then nothing was changed; or not be written, which is tried
    /// at once. Then the tracker has what was restored and goes on trying.
    pub fn keep(&self, file: SnapshotFile) -> Result<Start, SnapshotError> {
        // As of now, or the time since this was made would not be part of the gap.
        self.tick();
        let start = self.shared.keeper.start(file, &self.shared.tracker, |start| {
            self.put_snapshot("a snapshot was set aside", start.to_string());
        })?;
        self.tell();
        self.save()?;
        Ok(start)
    }

    /// Saves what it knows by now, to where [`SloTracker::keep`] was told: at shutdown. It waits
    /// for the disk.
    ///
    /// # Errors
    ///
    /// If no file was named, another process saves there, or the file system refuses. What was
    /// saved before is then still there.
    pub fn save(&self) -> Result<(), SnapshotError> {
        // Saved all the same, should somebody panic who is told of the tick.
        let mut panic = KeptBack::default();
        panic.run(|| self.tick());
        let shared = &self.shared;
        let told = |saved: Saved<'_>| {
            let (what, why) = match saved {
                Saved::AgainAtLast => ("the snapshot was saved", "well again".into()),
                Saved::NoMore(error) => ("the snapshot was not saved", error.to_string()),
            };
            self.put_snapshot(what, why);
        };
        let saved = shared.keeper.save(&shared.tracker, crate::clock::read(), told);
        panic.run(|| self.tell());
        panic.go_on();
        saved
    }

    fn put_snapshot(&self, what: &'static str, why: String) {
        self.shared.desk.put([News::Snapshot { what, why }]);
    }

    /// Ticks once a second and saves once a minute, for ever: spawn it. A listener that panics
    /// does not end it.
    ///
    /// Files are written on tokio's threads for what blocks, one save at a time.
    pub async fn run(self) {
        let mut ticks = interval(TICK);
        // After a stall one tick tells all that several would.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut saving = None;
        let mut tried = Instant::now();
        loop {
            let now = ticks.tick().await;
            // A listener that panics has said so; the objectives of the service are followed on.
            KeptBack::default().run(|| self.tick());
            let due = self.shared.keeper.schedule().every.is_some_and(|every| now - tried >= every);
            let idle = saving.as_ref().is_none_or(tokio::task::JoinHandle::is_finished);
            if due && idle {
                tried = now;
                let tracker = self.clone();
                // A failure is told to the observers.
                saving = Some(spawn_blocking(move || drop(tracker.save())));
            }
        }
    }

    /// Reads what was recorded since the last tick, looks at everything again, and tells what
    /// happened.
    ///
    /// [`SloTracker::run`] does so by itself. Call it before a page is rendered that shall be of
    /// this very moment.
    ///
    /// Everybody is told of one thing after the other, in the order in which they happened. Where
    /// two threads tick, one of them tells for both, and the other does not wait for it; so it is
    /// with a listener that ticks.
    ///
    /// # Panics
    ///
    /// If an observer or a listener does, once all of them have been told; and if the clocks that
    /// [`SloTracker::with_clocks`] was given tick a tracker themselves.
    pub fn tick(&self) {
        // Before the lock, so that they may ask the tracker. A reading that another thread has
        // overtaken is no progress.
        let now = read(&*self.shared.clocks);
        {
            let mut tracker = self.lock();
            // While it is locked, or a later tick could be told of first.
            self.shared.desk.put(tracker.tick(now).into_iter().map(News::Happening));
        }
        self.tell();
    }

    fn tell(&self) {
        self.shared.desk.tell(self.shared.service.as_str());
    }

    /// Tells `observer` of what happens from now on.
    pub fn observe(&self, observer: Arc<dyn Observe>) {
        self.shared.desk.observers.add(observer);
    }

    /// Calls `listener` with what happens at ticks from now on, in full.
    ///
    /// What happened comes in order, and once. A listener that takes its time keeps the others
    /// from hearing the next thing, and no other thread from ticking; what happens until it returns
    /// is kept, so one that never does keeps more and more.
    pub fn listen(&self, listener: impl Fn(&Happening) + Send + Sync + 'static) {
        self.shared.desk.listen(Arc::new(listener));
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &Name {
        &self.shared.service
    }

    /// The names of the objectives, in the order in which they were given.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.shared.recorders.iter().map(|recorder| recorder.name())
    }

    /// What an objective promises, as of now; `None` for an unknown name, as below.
    #[must_use]
    pub fn objective(&self, objective: &str) -> Option<Objective> {
        self.lock().objectives().find(|it| it.name().as_str() == objective).cloned()
    }

    /// Where the events of an objective are counted: for events that are no calls, and for
    /// verdicts that come late.
    #[must_use]
    pub fn recorder(&self, objective: &str) -> Option<Arc<Recorder>> {
        let recorders = &self.shared.recorders;
        recorders.iter().find(|recorder| recorder.name().as_str() == objective).cloned()
    }

    /// Where the events of all objectives are counted.
    pub fn recorders(&self) -> impl Iterator<Item = Arc<Recorder>> + '_ {
        self.shared.recorders.iter().cloned()
    }

    /// How an objective, or a composite, stands, for layers to read without a lock.
    #[must_use]
    pub fn signal(&self, name: &str) -> Option<Arc<Signal>> {
        self.lock().signal(name)
    }

    /// How all objectives stand together, for layers to read without a lock: what retries and
    /// shedding are held back by. See [`Signals`].
    #[must_use]
    pub fn signals(&self) -> Signals {
        self.lock().signals()
    }

    /// The numbers of an objective, as of the last tick.
    #[must_use]
    pub fn numbers(&self, objective: &str) -> Option<Numbers> {
        self.lock().numbers(objective)
    }

    /// What any window of an objective holds, and how much of it was observed; `None` too for one
    /// that is longer than what is kept.
    #[must_use]
    pub fn window(&self, objective: &str, length: Duration) -> Option<(WindowCounts, Coverage)> {
        self.lock().window(objective, length)
    }

    /// What an objective counted hour by hour, the oldest first, each with its start in Unix time.
    #[must_use]
    pub fn history(&self, objective: &str) -> Option<Vec<(i64, Counts)>> {
        self.lock().history(objective)
    }

    /// The bytes of the rings and counts of an objective, which do not grow.
    #[must_use]
    pub fn bytes(&self, objective: &str) -> Option<usize> {
        self.lock().bytes(objective)
    }

    /// How the rules of alerting of an objective stand.
    #[must_use]
    pub fn alerts(&self, objective: &str) -> Option<Vec<AlertStatus>> {
        self.lock().alerts(objective)
    }

    /// The worst state of the rules of one severity.
    #[must_use]
    pub fn severity(&self, objective: &str, severity: Severity) -> Option<AlertState> {
        self.lock().severity(objective, severity)
    }

    /// How every objective and composite stands before the gate.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.lock().standings()
    }

    /// Whether a change may be released, by what this instance knows.
    #[must_use]
    pub fn decide(&self, ask: &Ask) -> Decision {
        decide(&self.standings(), ask)
    }

    /// What was said badly of an objective, given how many events a period is expected to have.
    #[must_use]
    pub fn lint(&self, objective: &str, expected_events: Option<u64>) -> Option<Vec<Lint>> {
        self.objective(objective).map(|objective| lint(&objective, expected_events))
    }

    /// Promises another share from now on. The counts stay.
    ///
    /// # Errors
    ///
    /// If there is no such objective.
    pub fn retarget(&self, objective: &Name, target: Target) -> Result<(), TrackerError> {
        self.lock().retarget(objective, target)
    }

    /// Excuses the service at these times, whatever was planned before.
    pub fn plan_maintenance(&self, planned: impl IntoIterator<Item = Maintenance>) {
        self.lock().plan_maintenance(planned);
    }

    /// Excuses the service from now on, for so long.
    pub fn begin_maintenance(&self, lasts: Duration) {
        // Or it would last from the last tick on.
        self.tick();
        self.lock().begin_maintenance(lasts);
        self.tick();
    }

    /// Ends what [`SloTracker::begin_maintenance`] began. What is planned goes on.
    pub fn end_maintenance(&self) {
        self.lock().end_maintenance();
        self.tick();
    }

    /// Excuses an objective for a time that has passed: what it counted then is taken out of
    /// every window, the alerts look again at once, and everybody is told. See [`Tracker::excuse`]
    /// for what stays.
    ///
    /// # Errors
    ///
    /// If there is no such objective.
    pub fn excuse(
        &self,
        objective: &Name,
        from: SystemTime,
        until: SystemTime,
    ) -> Result<(), TrackerError> {
        // What came since the last tick may be of that time.
        self.tick();
        {
            let mut tracker = self.lock();
            let happened = tracker.excuse(objective, from, until)?;
            self.shared.desk.put([News::Happening(happened)]);
        }
        self.tick();
        Ok(())
    }

    /// Whether maintenance was on at the last tick.
    #[must_use]
    pub fn in_maintenance(&self) -> bool {
        self.lock().in_maintenance()
    }

    /// How many times the clocks did more than to go on.
    #[must_use]
    pub fn clock_changes(&self) -> u64 {
        self.lock().clock_changes()
    }

    /// When it ticked last, by the wall clock.
    #[must_use]
    pub fn ticked_at(&self) -> SystemTime {
        self.lock().now().system_time()
    }

    /// How old the newest snapshot is; `None` as long as there is none.
    #[must_use]
    pub fn snapshot_age(&self) -> Option<Duration> {
        let saved = self.shared.keeper.schedule().saved?;
        Some(crate::clock::read().saturating_duration_since(saved))
    }

    /// Whether nothing but this handle is left: no layer, no recorder, no other handle.
    #[must_use]
    pub fn is_last(&self) -> bool {
        // Of each recorder the tracker has one, and the list of them here the other.
        let alone = Arc::strong_count(&self.shared) == 1
            && self.shared.recorders.iter().all(|recorder| Arc::strong_count(recorder) == 2);
        // Who sees that they are gone sees what they had counted.
        fence(Ordering::Acquire);
        alone
    }

    /// What tells this tracker from any other that lives at the same time.
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.shared).cast::<()>() as usize
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tracker> {
        lock(&self.shared.tracker)
    }
}

/// What the windows are made for.
const TICK: Duration = Duration::from_secs(1);

impl fmt::Debug for SloTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().map(Name::as_str).collect();
        f.debug_struct("SloTracker")
            .field("service", &self.shared.service)
            .field("objectives", &names)
            .finish_non_exhaustive()
    }
}
