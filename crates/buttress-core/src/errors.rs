use std::{any::Any, error::Error};

use crate::{BoxError, KNOWN_ERRORS};

/// Looks at an error of any type, without asking its type for anything.
///
/// A bound `E: Error` leaves out `Box<dyn Error>`, which is not an `Error`; `E: Into<BoxError>`
/// uses the value up. Behind `Any` the boxed error is found, and so are the errors of the crates
/// whose features are on. `None` for all others.
///
/// ```
/// use buttress_core::{as_error, BoxError};
///
/// let boxed: BoxError = "no route to host".into();
/// assert_eq!(as_error(&boxed).unwrap().to_string(), "no route to host");
/// assert!(as_error(&7).is_none());
/// ```
pub fn as_error<E: 'static>(error: &E) -> Option<&(dyn Error + 'static)> {
    let any: &dyn Any = error;
    if let Some(boxed) = any.downcast_ref::<BoxError>() {
        return Some(&**boxed);
    }
    KNOWN_ERRORS.iter().find_map(|lookup| lookup(any))
}

/// Sees an error of one type in anything.
pub(crate) type Lookup = fn(&dyn Any) -> Option<&(dyn Error + 'static)>;

pub(crate) fn lookup<E: Error + 'static>(any: &dyn Any) -> Option<&(dyn Error + 'static)> {
    any.downcast_ref::<E>().map(|error| error as &(dyn Error + 'static))
}

/// An error and all that it came from.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
