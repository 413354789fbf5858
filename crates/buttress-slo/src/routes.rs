use std::fmt;

/// A group of routes, by their templates.
///
/// A pattern is a template, or the beginning of templates followed by `*`. Calls whose route
/// nothing tells are in the group of all, and of those but some.
///
/// ```
/// use buttress_slo::RouteSet;
///
/// let checkout = RouteSet::only(["/cart", "/orders/*"]);
/// assert!(checkout.contains(Some("/orders/{id}")));
/// assert!(!checkout.contains(Some("/carts")) && !checkout.contains(None));
/// assert!(RouteSet::ALL.contains(None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSet {
    patterns: Vec<Box<str>>,
    /// Whether those that match are in it, or out.
    within: bool,
}

impl RouteSet {
    /// All routes.
    pub const ALL: Self = Self { patterns: Vec::new(), within: false };

    /// Those that match one of these patterns.
    #[must_use]
    pub fn only<P: Into<Box<str>>>(patterns: impl IntoIterator<Item = P>) -> Self {
        Self { patterns: patterns.into_iter().map(Into::into).collect(), within: true }
    }

    /// Those that match none of these patterns.
    #[must_use]
    pub fn except<P: Into<Box<str>>>(patterns: impl IntoIterator<Item = P>) -> Self {
        Self { patterns: patterns.into_iter().map(Into::into).collect(), within: false }
    }

    /// Whether a route is in it. Costs a comparison for each pattern, and allocates nothing.
    #[must_use]
    #[inline]
    pub fn contains(&self, route: Option<&str>) -> bool {
        let matches = route.is_some_and(|route| {
            self.patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => route.starts_with(start),
                None => route == &**pattern,
            })
        });
        matches == self.within
    }
}

impl fmt::Display for RouteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.within, self.patterns.is_empty()) {
            (false, true) => "all routes",
            (false, false) => "all routes but ",
            (true, _) => "",
        })?;
        f.write_str(&self.patterns.join(", "))
    }
}
