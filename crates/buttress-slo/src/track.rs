use std::{sync::Arc, time::Duration};

use crate::{
    AlertState, AlertStatus, Budget, Burn, Counts, Coverage, Exhaustion, Forecast, Happening,
    Moment, Numbers, Objective, Period, Recorder, Rule, Severity, Share, Signal, WindowBurn,
    WindowCounts,
    alert::{Alert, View},
    coverage::Gaps,
    forecast::{self, Current},
    gate::Standing,
    maintenance::Calendar,
    policy::Position,
    ring::{Ring, seconds},
    signal::Reading,
    slices::{Slicer, UnderWay},
};

/// One objective, followed through time.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) objective: Objective,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) signal: Arc<Signal>,
    /// What was counted before this process, in units of the method.
    pub(crate) before: Counts,
    /// What was counted, before or since, and is excused.
    pub(crate) excused: Counts,
    slicer: Slicer,
    pub(crate) ring: Ring,
    pub(crate) since: i64,
    pub(crate) last_event: Option<i64>,
    events: Counts,
    /// The calendar's period, and the counts at its start.
    pub(crate) period: Option<(Period, Counts)>,
    pub(crate) alerts: Vec<Alert>,
    pub(crate) position: Position,
    /// Since when some page has fired.
    pub(crate) incident: Option<i64>,
}

impl Track {
    pub(crate) fn new(objective: Objective, now: Moment) -> Self {
        let recorder = Arc::new(Recorder::new(&objective));
        let period = objective.window().is_calendar();
        let period = period.then(|| (objective.window().period_at(now.wall), Counts::default()));
        let track = Self {
            recorder,
            signal: Arc::new(Signal::new()),
            before: Counts::default(),
            excused: Counts::default(),
            slicer: Slicer::new(objective.method(), now.steady),
            ring: Ring::new(objective.longest(), now.steady, Counts::default()),
            since: now.steady,
            last_event: None,
            events: Counts::default(),
            period,
            alerts: vec![Alert::default(); objective.alerts().rules().len()],
            position: Position::new(objective.policy(), Share::ONE, now.steady),
            incident: None,
            objective,
        };
        track.publish(&Gaps::default(), now);
        track
    }

    /// Reads what was recorded, and looks again at everything that follows from it.
    pub(crate) fn tick(
        &mut self,
        now: Moment,
        gaps: &Gaps,
        maintenance: bool,
        happened: &mut Vec<Happening>,
    ) {
        self.recorder.set_maintenance(maintenance);
        let events = self.recorder.counts();
        if events != self.events {
            (self.events, self.last_event) = (events, Some(now.steady));
        }
        let counted = self.slicer.advance(now.steady, events, maintenance);
        let known = self.before.plus(counted).since(self.excused);
        self.ring.advance(now.steady, known);
        self.renew(now, happened);
        self.look(now, gaps, happened);
        self.publish(gaps, now);
    }

    /// Whether anything was recorded since the last tick.
    pub(crate) fn has_news(&self) -> bool {
        self.recorder.counts() != self.events
    }

    /// Forgets all that was counted before, as of `steady`.
    pub(crate) fn restart(&mut self, steady: i64) {
        self.ring = Ring::new(self.objective.longest(), steady, Counts::default());
        self.slicer = Slicer::new(self.objective.method(), steady);
        self.before = Counts::default();
        self.excused = Counts::default();
        self.events = Counts::default();
    }

    /// Goes on with the slice that was under way at `steady`.
    pub(crate) fn resume(&mut self, steady: i64, slice: UnderWay) {
        self.slicer = Slicer::resume(self.objective.method(), steady, slice);
    }

    /// The slice that is under way; `None` where events are counted.
    pub(crate) fn under_way(&self) -> Option<UnderWay> {
        self.slicer.under_way(self.events)
    }

    /// Forgets what is known of the slice under way, if it is excused up to now.
    pub(crate) fn excuse_slice(&mut self, from: i64, until: i64, now: Moment) {
        if until >= now.steady {
            self.slicer.excuse(from, self.events);
        }
    }

    /// Lets time pass in which nobody counted: slices of it count as they were told to, but for
    /// those in which maintenance was on. `events` came before it.
    pub(crate) fn miss_slices(&mut self, now: Moment, events: Counts, calendar: &Calendar) {
        let from = now.steady.saturating_sub_unsigned(self.objective.longest());
        let (ring, before, excused) = (&mut self.ring, self.before, self.excused);
        let was_excused = |steady: i64| {
            calendar.was_on(Moment { steady, wall: now.wall.saturating_add(steady - now.steady) })
        };
        self.slicer.miss(from, now.steady, events, was_excused, |time, slices| {
            ring.advance(time, before.plus(slices).since(excused));
        });
    }

    /// As [`Track::miss_slices`], where nothing came either.
    pub(crate) fn pass_unobserved(&mut self, now: Moment, calendar: &Calendar) {
        self.miss_slices(now, Counts::default(), calendar);
        let total = self.ring.total();
        self.ring.advance(now.steady, total);
    }

    /// Begins a new period of the calendar. The wall clock may have been set back, too.
    fn renew(&mut self, now: Moment, happened: &mut Vec<Happening>) {
        let Some((before, _)) = self.period.filter(|(period, _)| !period.contains(now.wall)) else {
            return;
        };
        self.period = self.calendar_period(now);
        let Some((period, _)) = self.period.filter(|(period, _)| *period != before) else {
            // Clocks that are put back past midnight are in a period that has ended already.
            return;
        };
        let objective = self.objective.name().clone();
        happened.push(Happening::NewPeriod { objective, period });
    }

    /// The calendar's period, with the counts at its start as far back as the ring knows them.
    pub(crate) fn calendar_period(&self, now: Moment) -> Option<(Period, Counts)> {
        let window = self.objective.window();
        let period = window.is_calendar().then(|| window.period_at(now.wall))?;
        let ago = seconds(period.start, now.wall);
        let spent = self.ring.window(ago).map_or(self.ring.total(), |window| window.counts);
        Some((period, self.ring.total().since(spent)))
    }

    fn look(&mut self, now: Moment, gaps: &Gaps, happened: &mut Vec<Happening>) {
        let budget = self.budget(gaps, now);
        let mut alerts = std::mem::take(&mut self.alerts);
        let view = self.view(gaps, now);
        let plan = self.objective.alerts();
        for (alert, rule) in alerts.iter_mut().zip(plan.rules()) {
            if let Some(from) = alert.step(rule, plan, &view, self.last_event) {
                happened.push(Happening::Alert {
                    objective: self.objective.name().clone(),
                    rule: rule.name().into(),
                    severity: rule.severity(),
                    from,
                    to: alert.state,
                });
            }
        }
        self.alerts = alerts;
        happened.extend(self.end_incident(&budget));
        happened.extend(self.follow_policy(budget.remaining(), now));
    }

    /// An incident lasts for as long as any page fires. At its end it may have to be written up.
    fn end_incident(&mut self, budget: &Budget) -> Option<Happening> {
        if let Some(since) = self.paging_since() {
            // Whatever fires later, it began when the first did.
            self.incident.get_or_insert(since);
            return None;
        }
        let start = self.incident.take()?;
        // What the first page fired for came before it.
        let pages = self.objective.alerts().rules().iter();
        let pages = pages.filter(|rule| rule.severity() == Severity::Page);
        let lead = pages.filter_map(|rule| rule.windows().last()).max().unwrap_or_default();
        let start = start.saturating_sub_unsigned(lead.as_secs());
        let total = budget.counts().total();
        let bad = self.ring.since(start).map_or(0, |window| window.counts.bad).min(total);
        let counts = Counts { good: total - bad, bad };
        let spent = Budget::new(self.objective.target(), counts, budget.coverage()).consumed();
        let objective = self.objective.name().clone();
        let much = spent > self.objective.policy().postmortem();
        much.then_some(Happening::PostmortemDue { objective, spent })
    }

    /// When the first of the pages that fire did; `None` if none does.
    pub(crate) fn paging_since(&self) -> Option<i64> {
        let rules = self.objective.alerts().rules().iter().zip(&self.alerts);
        let pages = rules
            .filter(|(rule, alert)| rule.severity() == Severity::Page && alert.state.is_firing());
        pages.filter_map(|(_, alert)| alert.state.since()).min()
    }

    fn follow_policy(&mut self, remaining: Share, now: Moment) -> Option<Happening> {
        let (policy, paging) = (self.objective.policy(), self.is_paging());
        let from = self.position.step(policy, remaining, paging, now.steady)?;
        let level = |place: usize| policy.levels()[place].name().into();
        Some(Happening::Level {
            name: self.objective.name().clone(),
            from: level(from),
            to: level(self.position.place),
            remaining,
        })
    }

    /// Tells the layers.
    pub(crate) fn publish(&self, gaps: &Gaps, now: Moment) {
        let burn = self.shortest_window().and_then(|window| {
            let (counts, coverage) = self.view(gaps, now).window(window);
            Burn::observed(counts, self.objective.target(), coverage)
        });
        self.signal.set(Reading {
            release: self.objective.policy().levels()[self.position.place].release(),
            remaining: self.budget(gaps, now).remaining(),
            burn,
            paging: self.is_paging(),
        });
    }

    fn shortest_window(&self) -> Option<Duration> {
        let windows = self.objective.alerts().rules().iter().flat_map(Rule::windows);
        windows.min().or_else(|| Some(self.objective.window().nominal()))
    }

    pub(crate) fn is_paging(&self) -> bool {
        self.worst(Severity::Page).is_firing()
    }

    pub(crate) fn view<'a>(&'a self, gaps: &'a Gaps, now: Moment) -> View<'a> {
        View {
            ring: &self.ring,
            target: self.objective.target(),
            budget: self.budget(gaps, now),
            since: self.since,
            gaps,
            unit: self.objective.method().unit(),
        }
    }

    fn wall_period(&self, now: Moment) -> Period {
        match self.period {
            Some((period, _)) => period,
            None => self.objective.window().period_at(now.wall),
        }
    }

    /// What the period holds so far.
    fn counts(&self, now: Moment) -> WindowCounts {
        let exact = |counts| WindowCounts {
            counts,
            least: counts,
            most: counts,
            overshoot: Duration::ZERO,
        };
        if let Some((_, at_start)) = self.period {
            return exact(self.ring.total().since(at_start));
        }
        let length = self.wall_period(now).length().as_secs();
        // The ring was made for this window.
        self.ring.window(length).unwrap_or_else(|| exact(self.ring.total()))
    }

    pub(crate) fn budget(&self, gaps: &Gaps, now: Moment) -> Budget {
        let length = self.wall_period(now).length().as_secs();
        let observed = self.elapsed(gaps, now).observed_seconds();
        let coverage = Coverage::of_seconds(observed, length);
        Budget::new(self.objective.target(), self.counts(now).counts, coverage)
    }

    /// How much was observed of that part of the period that has passed.
    fn elapsed(&self, gaps: &Gaps, now: Moment) -> Coverage {
        let passed = seconds(self.wall_period(now).start, now.wall);
        let start = now.steady.saturating_sub_unsigned(passed);
        Coverage::of_seconds(gaps.observed(self.since, start, now.steady), passed)
    }

    /// The worst state of the rules of one severity.
    pub(crate) fn worst(&self, severity: Severity) -> AlertState {
        let rules = self.objective.alerts().rules().iter().zip(&self.alerts);
        let states = rules.filter(|(rule, _)| rule.severity() == severity);
        states.map(|(_, alert)| alert.state).max_by_key(|state| state.rank()).unwrap_or_default()
    }

    pub(crate) fn numbers(&self, gaps: &Gaps, now: Moment) -> Numbers {
        let view = self.view(gaps, now);
        let mut windows: Vec<_> =
            self.objective.alerts().rules().iter().flat_map(Rule::windows).collect();
        windows.sort_unstable();
        windows.dedup();
        Numbers {
            target: self.objective.target(),
            period: self.wall_period(now),
            counts: self.counts(now),
            unit: self.objective.method().unit(),
            budget: view.budget,
            observed: self.elapsed(gaps, now),
            burns: windows.into_iter().map(|window| burn(&view, window)).collect(),
            forecast: self.forecast(&view, now),
            quiet_for: self.last_event.map(|at| ago(at, now)),
        }
    }

    fn forecast(&self, view: &View<'_>, now: Moment) -> Forecast {
        if view.budget.remaining() <= Share::ZERO {
            // Whether there is traffic or not.
            let spent = Exhaustion::In(Duration::ZERO);
            return Forecast { naive: spent, rolling: spent };
        }
        let length = self.objective.window().nominal();
        let recent = RECENT.min(length);
        let (counts, coverage) = view.window(recent);
        let target = self.objective.target();
        let naive = forecast::naive(&view.budget, Burn::of(counts, target));
        let rolling = if let Some((period, _)) = self.period {
            let left = Duration::from_secs(seconds(now.wall, period.end));
            forecast::before_renewal(naive, left)
        } else {
            let current = Current { counts, observed: coverage.observed_seconds() };
            let observed = |since| view.gaps.observed(self.since, since, now.steady);
            forecast::rolling(&self.ring, target, length.as_secs(), observed, current)
        };
        Forecast { naive, rolling }
    }

    pub(crate) fn alerts(&self, gaps: &Gaps, now: Moment) -> Vec<AlertStatus> {
        let view = self.view(gaps, now);
        let rules = self.objective.alerts().rules().iter().zip(&self.alerts);
        rules
            .map(|(rule, alert)| AlertStatus {
                rule: rule.name().into(),
                severity: rule.severity(),
                state: alert.state,
                since: alert.state.since().map(|since| ago(since, now)),
                burns: rule.windows().map(|window| burn(&view, window)).collect(),
                fires_when: rule.to_string(),
                clears_when: rule.clears_when(self.objective.target()),
            })
            .collect()
    }

    pub(crate) fn standing(&self, gaps: &Gaps, now: Moment) -> Standing {
        let budget = self.budget(gaps, now);
        let policy = self.objective.policy();
        let level = &policy.levels()[self.position.place];
        Standing {
            name: self.objective.name().clone(),
            level: level.name().into(),
            place: self.position.place,
            release: level.release(),
            exempt: policy.exceptions().to_vec(),
            remaining: budget.remaining(),
            paging: self.is_paging(),
            has_data: !budget.counts().is_empty(),
            coverage: self.elapsed(gaps, now).ratio(),
        }
    }
}

/// What a forecast takes for the present: the window of the fastest page.
const RECENT: Duration = Duration::from_secs(3600);

fn burn(view: &View<'_>, window: Duration) -> WindowBurn {
    let (counts, coverage) = view.window(window);
    WindowBurn { window, counts, burn: Burn::of(counts, view.target), coverage }
}

fn ago(since: i64, now: Moment) -> Duration {
    Duration::from_secs(seconds(since, now.steady))
}
