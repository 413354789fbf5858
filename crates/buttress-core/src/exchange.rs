use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{
    BoxError, Code, Criticality, End, Facts, Judgement, Rejection, Remaining, Side, Timing,
    retry::Wait,
};

/// How a refusal surfaces in one world of requests, responses and errors.
///
/// The response type stays what it was. The error type is an output, so that a server whose
/// error is `Infallible` keeps it, and a client's becomes a `BoxError` that carries the
/// [`Rejection`]. [`Auto`](crate::Auto) is the strategy that layers have unless told otherwise.
///
/// ```
/// use buttress_core::{Auto, BoxError, Kind, Raise, Reject, Rejection};
///
/// let rejection = Rejection::new(Kind::Overloaded, "uploads");
/// let refused: Result<(), BoxError> = Reject::<(), (), BoxError>::reject(&Raise, (), rejection);
///
/// assert!(Rejection::find(&*refused.unwrap_err()).is_some());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know how to surface a refusal as `{Res}` or as an error made of `{Err}`",
    note = "a service whose error is `Infallible` answers with a response, whose body must be `Default`",
    note = "otherwise choose `.on_reject(Raise)` for a boxed error, `.on_reject(Typed)` where `{Err}: From<Rejection>`, or `.on_reject(With(closure))`"
)]
pub trait Reject<Req, Res, Err>: Clone {
    /// The error of the layered service.
    type Error;
    /// What must be kept of the request, which is gone when the refusal surfaces.
    type Context;

    /// Keeps what [`Reject::reject`] will need.
    fn context(&self, request: &Req) -> Self::Context;

    /// As [`Reject::context`], for who has read the request's [`Facts`] already.
    #[inline]
    fn context_of(&self, request: &Req, facts: Facts) -> Self::Context {
        let _ = facts;
        self.context(request)
    }

    /// Surfaces a refusal.
    ///
    /// # Errors
    ///
    /// In a world where refusals are errors.
    fn reject(&self, context: Self::Context, rejection: Rejection) -> Result<Res, Self::Error>;

    /// Passes on an error of the inner service.
    fn inner(&self, error: Err) -> Self::Error;
}

/// How a call is read, judged up to its end, and watched in one world.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not know how to judge a call of `{Req}` that answers `{Res}`",
    note = "it knows requests and responses of `http` and of reqwest; what a client of yours makes of them has to be one of those",
    note = "a service of your own requests and responses takes `.exchange(Plain)`"
)]
pub trait Judge<Req, Res, Err>: Clone {
    /// One call, as it is judged.
    type Case: Case;
    /// A response whose end `W` will see.
    type Response<W: Watch>;

    /// Reads what is known before anything has happened.
    fn facts(&self, request: &Req) -> Facts;

    /// The template of the request's route, where there is one. Never a raw path.
    fn route<'a>(&self, request: &'a Req, facts: Facts) -> Option<&'a str>;

    /// What the request says about how long its caller will wait: the deadline of a layer
    /// further out, `grpc-timeout`, or the header named `header`.
    fn deadline(
        &self,
        request: &Req,
        facts: Facts,
        header: Option<&'static str>,
    ) -> Option<Remaining>;

    /// Writes into the request until when its caller will wait, seen from `now`.
    fn forward(
        &self,
        request: &mut Req,
        facts: Facts,
        header: &'static str,
        deadline: Instant,
        now: Instant,
    );

    /// What the request says about its criticality: the extension of a layer further out, or the
    /// header named `header`.
    fn criticality(&self, request: &Req, facts: Facts, header: &'static str)
    -> Option<Criticality>;

    /// Writes into the request how critical it is, for layers further in and the next hop.
    fn set_criticality(
        &self,
        request: &mut Req,
        facts: Facts,
        header: &'static str,
        criticality: Criticality,
    );

    /// Opens a case. Who answers and who asks read some responses differently.
    fn open(&self, request: &Req, facts: Facts, side: Side) -> Self::Case;

    /// Takes the head of the response into the case.
    fn head(&self, case: &mut Self::Case, response: &Res);

    /// Looks into an error of the inner service.
    fn error<'a>(&self, error: &'a Err) -> Option<&'a (dyn Error + 'static)>;

    /// How long the service asks its callers to wait before they come again: in `Retry-After`, in
    /// `grpc-retry-pushback-ms`, or in a [`Rejection`].
    fn retry_after(&self, outcome: Result<&Res, &Err>) -> Option<Duration>;

    /// As [`Judge::retry_after`], and whether it asks them not to come again at all: for gRPC by
    /// a `grpc-retry-pushback-ms` that is negative, no number, or there twice.
    #[inline]
    fn asked(&self, outcome: Result<&Res, &Err>) -> Option<Wait> {
        self.retry_after(outcome).map(Wait::After)
    }

    /// Whether the inner service itself gave up on the deadline, and says so in other words.
    fn is_timeout(&self, facts: Facts, outcome: &Result<Res, Err>) -> bool;

    /// Whether somebody else answered in the service's stead, and says so: a
    /// [`Degraded`](crate::fallback::Degraded) among the response's extensions.
    #[inline]
    fn is_degraded(&self, response: &Res) -> bool {
        let _ = response;
        false
    }

    /// Lets `watch` see the end of the response.
    fn wrap<W: Watch>(&self, facts: Facts, response: Res, watch: W) -> Self::Response<W>;

    /// A response whose end nobody watches.
    fn pass<W: Watch>(&self, response: Res) -> Self::Response<W>;
}

/// One call on its way to a [`Judgement`].
pub trait Case: Send + Sync + 'static {
    /// Whether [`Case::end`] looks at its [`Timing`]. If it does not, who has no other use for
    /// the time need not read the clock.
    const TIMED: bool;

    /// Whether [`Case::end`] does anything but judge. If it does not, who has a judgement already
    /// need not tell how the call went on.
    const HEARS_END: bool = true;

    /// What is known of the call.
    fn facts(&self) -> Facts;

    /// What the head of the response said; `None` while only the end can tell.
    fn judged(&self) -> Option<Judgement>;

    /// Judges the call. Called once.
    fn end(&mut self, end: End<'_>, timing: Timing) -> Judgement;
}

/// What a layer keeps with a response until its end.
///
/// Whoever wraps the response calls [`Watch::end`] once, also when the response is dropped.
pub trait Watch: Send + Sync + 'static {
    /// Whether [`Watch::end`] looks at how, or when, the response has ended. Who does not is told
    /// `Complete` or `Dropped` and no more, and has no [`clock`](crate::clock) scope.
    #[inline]
    fn asks_how(&self) -> bool {
        true
    }

    /// Called before each poll of the body, with a task's budget that the body has not used up.
    #[inline]
    fn before(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// Asked after each poll that did not end the body: whether to cut off the rest.
    ///
    /// `waiting` says that the poll brought nothing.
    #[inline]
    fn poll_cut(self: Pin<&mut Self>, waiting: bool, cx: &mut Context<'_>) -> Poll<Rejection> {
        let _ = (waiting, cx);
        Poll::Pending
    }

    /// The response has ended. Called inside a [`clock`](crate::clock) scope, that of the poll or
    /// of the drop that saw the end. What the body held is gone by then, if it was cut or dropped.
    fn end(self: Pin<&mut Self>, finish: Finish<'_>);
}

/// How a watched response ended.
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    /// As it should; for gRPC with the code of its trailers or its head.
    Complete {
        /// The gRPC code, where there was one.
        code: Option<Code>,
    },
    /// Its body failed.
    Broken(&'a (dyn Error + 'static)),
    /// Its body panicked, and the panic goes on.
    Panicked,
    /// It was cut off, as [`Watch::poll_cut`] asked.
    Cut,
    /// It was dropped before its end.
    Dropped,
}

/// Always an error: a `BoxError` that carries the [`Rejection`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Raise;

impl<Req, Res, E: Into<BoxError>> Reject<Req, Res, E> for Raise {
    type Error = BoxError;
    type Context = ();

    #[inline]
    fn context(&self, _: &Req) {}

    #[inline]
    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, BoxError> {
        Err(rejection.into())
    }

    #[inline]
    fn inner(&self, error: E) -> BoxError {
        error.into()
    }
}

/// The inner service's own error type, which takes up a [`Rejection`].
///
/// ```
/// use buttress_core::{Kind, Reject, Rejection, Typed};
///
/// #[derive(Debug)]
/// enum ShopError {
///     Refused(Rejection),
///     SoldOut,
/// }
///
/// impl From<Rejection> for ShopError {
///     fn from(rejection: Rejection) -> Self {
///         Self::Refused(rejection)
///     }
/// }
///
/// let rejection = Rejection::new(Kind::Overloaded, "shop");
/// let refused: Result<(), ShopError> = Reject::<(), (), ShopError>::reject(&Typed, (), rejection);
/// assert!(matches!(refused, Err(ShopError::Refused(_))));
/// # let _ = ShopError::SoldOut;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Typed;

impl<Req, Res, E: From<Rejection>> Reject<Req, Res, E> for Typed {
    type Error = E;
    type Context = ();

    #[inline]
    fn context(&self, _: &Req) {}

    #[inline]
    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, E> {
        Err(rejection.into())
    }

    #[inline]
    fn inner(&self, error: E) -> E {
        error
    }
}

/// Whatever a closure makes of the refusal.
///
/// ```
/// use buttress_core::{Kind, Reject, Rejection, With};
///
/// let sorry = With(|rejection: Rejection| Ok(format!("sorry: {}", rejection.why())));
/// let refused: Result<String, ()> =
///     Reject::<(), String, ()>::reject(&sorry, (), Rejection::new(Kind::TimedOut, "t"));
///
/// assert_eq!(refused.unwrap(), "sorry: timed out");
/// ```
#[derive(Clone, Copy)]
pub struct With<F>(pub F);

impl<F> fmt::Debug for With<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("With(..)")
    }
}

impl<Req, Res, E, F> Reject<Req, Res, E> for With<F>
where
    F: Fn(Rejection) -> Result<Res, E> + Clone,
{
    type Error = E;
    type Context = ();

    #[inline]
    fn context(&self, _: &Req) {}

    #[inline]
    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, E> {
        (self.0)(rejection)
    }

    #[inline]
    fn inner(&self, error: E) -> E {
        error
    }
}

/// An exchange of two parts: one judges, the other surfaces refusals.
///
/// What `.judge(..)` and `.on_reject(..)` of a layer make.
#[derive(Clone, Copy, Debug, Default)]
pub struct Custom<J, R> {
    /// The part that judges.
    pub judge: J,
    /// The part that surfaces refusals.
    pub reject: R,
}

impl<J: Clone, R, Req, Res, E> Reject<Req, Res, E> for Custom<J, R>
where
    R: Reject<Req, Res, E>,
{
    type Error = R::Error;
    type Context = R::Context;

    #[inline]
    fn context(&self, request: &Req) -> R::Context {
        self.reject.context(request)
    }

    #[inline]
    fn context_of(&self, request: &Req, facts: Facts) -> R::Context {
        self.reject.context_of(request, facts)
    }

    #[inline]
    fn reject(&self, context: R::Context, rejection: Rejection) -> Result<Res, R::Error> {
        self.reject.reject(context, rejection)
    }

    #[inline]
    fn inner(&self, error: E) -> R::Error {
        self.reject.inner(error)
    }
}

impl<J, R: Clone, Req, Res, E> Judge<Req, Res, E> for Custom<J, R>
where
    J: Judge<Req, Res, E>,
{
    type Case = J::Case;
    type Response<W: Watch> = J::Response<W>;

    #[inline]
    fn facts(&self, request: &Req) -> Facts {
        self.judge.facts(request)
    }

    #[inline]
    fn route<'a>(&self, request: &'a Req, facts: Facts) -> Option<&'a str> {
        self.judge.route(request, facts)
    }

    #[inline]
    fn deadline(
        &self,
        request: &Req,
        facts: Facts,
        header: Option<&'static str>,
    ) -> Option<Remaining> {
        self.judge.deadline(request, facts, header)
    }

    #[inline]
    fn forward(
        &self,
        request: &mut Req,
        facts: Facts,
        header: &'static str,
        deadline: Instant,
        now: Instant,
    ) {
        self.judge.forward(request, facts, header, deadline, now);
    }

    #[inline]
    fn criticality(
        &self,
        request: &Req,
        facts: Facts,
        header: &'static str,
    ) -> Option<Criticality> {
        self.judge.criticality(request, facts, header)
    }

    #[inline]
    fn set_criticality(
        &self,
        request: &mut Req,
        facts: Facts,
        header: &'static str,
        criticality: Criticality,
    ) {
        self.judge.set_criticality(request, facts, header, criticality);
    }

    #[inline]
    fn open(&self, request: &Req, facts: Facts, side: Side) -> J::Case {
        self.judge.open(request, facts, side)
    }

    #[inline]
    fn head(&self, case: &mut J::Case, response: &Res) {
        self.judge.head(case, response);
    }

    #[inline]
    fn error<'a>(&self, error: &'a E) -> Option<&'a (dyn Error + 'static)> {
        self.judge.error(error)
    }

    #[inline]
    fn retry_after(&self, outcome: Result<&Res, &E>) -> Option<Duration> {
        self.judge.retry_after(outcome)
    }

    #[inline]
    fn asked(&self, outcome: Result<&Res, &E>) -> Option<Wait> {
        self.judge.asked(outcome)
    }

    #[inline]
    fn is_timeout(&self, facts: Facts, outcome: &Result<Res, E>) -> bool {
        self.judge.is_timeout(facts, outcome)
    }

    fn is_degraded(&self, response: &Res) -> bool {
        self.judge.is_degraded(response)
    }

    #[inline]
    fn wrap<W: Watch>(&self, facts: Facts, response: Res, watch: W) -> J::Response<W> {
        self.judge.wrap(facts, response, watch)
    }

    #[inline]
    fn pass<W: Watch>(&self, response: Res) -> J::Response<W> {
        self.judge.pass(response)
    }
}
