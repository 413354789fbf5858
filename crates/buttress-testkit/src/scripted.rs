use std::{any::Any, error::Error, fmt, io, panic::resume_unwind};

/// The error of everything that fails because a script says so.
///
/// ```
/// use buttress_testkit::ScriptedError;
///
/// let error = std::io::Error::other(ScriptedError("the disk is gone"));
/// assert_eq!(ScriptedError::find(&error), Some(&ScriptedError("the disk is gone")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptedError(
    /// What went wrong.
    pub &'static str,
);

impl ScriptedError {
    /// Finds it in a chain of errors.
    #[must_use]
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                // An `io::Error` leaves out what it carries when it is asked for its source.
                Some(carried) => Some(carried),
                None => error.source(),
            };
        }
        None
    }
}

impl fmt::Display for ScriptedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for ScriptedError {}

/// The payload of a panic that happens because a script says so.
///
/// It unwinds without the panic hook, so a test that expects it prints nothing.
///
/// ```
/// use buttress_testkit::ScriptedPanic;
///
/// let payload = std::panic::catch_unwind(|| ScriptedPanic::unwind()).unwrap_err();
/// assert!(ScriptedPanic::is(&*payload));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptedPanic;

impl ScriptedPanic {
    /// Unwinds.
    ///
    /// # Panics
    ///
    /// Always.
    pub fn unwind() -> ! {
        resume_unwind(Box::new(Self))
    }

    /// Whether this is what a panic was caught with.
    #[must_use]
    pub fn is(payload: &(dyn Any + Send)) -> bool {
        payload.is::<Self>()
    }
}
