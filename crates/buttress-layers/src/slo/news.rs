//! Tells what happened: in order, each once, and without a lock while somebody is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use buttress_core::{Change, Event, Observers};
use buttress_slo::Happening;

use super::{
    keeper::lock,
    tell::{LAYER, tell},
};
use crate::kept_back::KeptBack;

/// What there is to be told.
#[derive(Debug)]
pub(super) enum News {
    /// At a tick.
    Happening(Happening),
    /// With a snapshot.
    Snapshot { what: &'static str, why: String },
}

pub(super) type Listener = Arc<dyn Fn(&Happening) + Send + Sync>;

/// Where news are put down, and told one after the other by whoever comes first.
///
/// A lock held while a listener runs would keep the order as well, and would be a deadlock for the
/// listener that ticks.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) observers: Observers,
    listeners: RwLock<Vec<Listener>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    news: VecDeque<News>,
    /// Whether somebody is telling.
    busy: bool,
}

impl Desk {
    /// Puts down what is to be told, in this order. It waits for nobody.
    pub(super) fn put(&self, news: impl IntoIterator<Item = News>) {
        lock(&self.waiting).news.extend(news);
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// Tells all that is there, unless somebody does already. One who panics keeps nobody else
    /// from hearing it, nor from hearing the rest.
    pub(super) fn tell(&self, service: &str) {
        let mut first = self.next(false);
        if first.is_none() {
            return;
        }
        let mut telling = Telling { desk: self, done: false };
        let mut panic = KeptBack::default();
        while let Some(news) = first.take().or_else(|| self.next(true)) {
            self.tell_one(service, &news, &mut panic);
        }
        telling.done = true;
        panic.go_on();
    }

    /// What comes next, for one who is `telling` or wants to. As one step: what is put down
    /// afterwards is told by who put it.
    fn next(&self, telling: bool) -> Option<News> {
        let mut waiting = lock(&self.waiting);
        if waiting.busy && !telling {
            return None;
        }
        let news = waiting.news.pop_front();
        waiting.busy = news.is_some();
        news
    }

    fn tell_one(&self, service: &str, news: &News, panic: &mut KeptBack) {
        let happening = match news {
            News::Happening(happening) => happening,
            News::Snapshot { what, why } => {
                let (name, key, change) = (service, Some(&**why), Change::Snapshot(what));
                panic.run(|| self.observers.emit(&Event { layer: LAYER, name, key, change }));
                return;
            }
        };
        // Copied, because a listener may do what it likes, adding a listener included.
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner).clone();
        panic.run(|| tell(service, happening, |event| self.observers.emit(event)));
        for listener in &listeners {
            panic.run(|| listener(happening));
        }
    }
}

/// Whoever tells. Should that end before its time, the next one may.
struct Telling<'a> {
    desk: &'a Desk,
    done: bool,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.desk.waiting).busy = false;
        }
    }
}
