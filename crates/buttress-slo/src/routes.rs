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
    templates: Vec<Box<str>>,
    /// The beginnings, without their `*`.
    starts: Vec<Box<str>>,
    /// The bytes that stand second in any of them, most often after a slash; all, if one has
    /// none. Tells most routes apart before anything is compared.
    second: [u64; 4],
    /// Whether those that match are in it, or out.
    within: bool,
}

impl RouteSet {
    /// All routes.
    pub const ALL: Self =
        Self { templates: Vec::new(), starts: Vec::new(), second: [0; 4], within: false };

    /// Those that match one of these patterns.
    #[must_use]
    pub fn only<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Self {
        Self { within: true, ..Self::except(patterns) }
    }

    /// Those that match none of these patterns.
    #[must_use]
    pub fn except<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Self {
        let mut set = Self::ALL;
        for pattern in patterns {
            match pattern.as_ref().trim_end_matches('*').as_bytes().get(1) {
                Some(byte) => set.second[usize::from(byte >> 6)] |= 1 << (byte & 63),
                None => set.second = [u64::MAX; 4],
            }
            match pattern.as_ref().strip_suffix('*') {
                Some(start) => set.starts.push(start.into()),
                None => set.templates.push(pattern.as_ref().into()),
            }
        }
        set
    }

    /// Whether a route is in it. Looks at one byte of most routes, compares the others with each
    /// pattern, and allocates nothing.
    #[must_use]
    #[inline]
    pub fn contains(&self, route: Option<&str>) -> bool {
        let candidate = route.filter(|route| match route.as_bytes().get(1) {
            Some(byte) => self.second[usize::from(byte >> 6)] & 1 << (byte & 63) != 0,
            None => true,
        });
        candidate.is_some_and(|route| self.matches(route)) == self.within
    }

    fn matches(&self, route: &str) -> bool {
        self.templates.iter().any(|template| route == &**template)
            || self.starts.iter().any(|start| route.starts_with(&**start))
    }
}

impl fmt::Display for RouteSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starts = self.starts.iter().map(|start| format!("{start}*"));
        let patterns = self.templates.iter().map(ToString::to_string).chain(starts);
        let patterns = patterns.collect::<Vec<_>>().join(", ");
        match (self.within, patterns.is_empty()) {
            (false, true) => f.write_str("all routes"),
            (false, false) => write!(f, "all routes but {patterns}"),
            (true, true) => f.write_str("no routes"),
            (true, false) => f.write_str(&patterns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_templates_or_beginnings_of_them() {
        let set = RouteSet::only(["/cart", "/orders/*"]);

        for (route, within) in [
            ("/cart", true),
            ("/cart/", false),
            ("/car", false),
            ("/orders/", true),
            ("/orders/{id}", true),
            ("/orders", false),
        ] {
            assert_eq!(set.contains(Some(route)), within, "{route}");
            let except = RouteSet::except(["/cart", "/orders/*"]);
            assert_eq!(except.contains(Some(route)), !within, "{route}");
        }
        assert_eq!(set.to_string(), "/cart, /orders/*");
        assert_eq!(RouteSet::except(["/a"]).to_string(), "all routes but /a");
        assert!(!RouteSet::only([""; 0]).contains(Some("/")));
    }

    #[test]
    fn patterns_of_a_byte_or_none_match_too() {
        let matches = |pattern, route| RouteSet::only([pattern]).contains(Some(route));

        assert!(matches("*", "") && matches("*", "/") && matches("*", "/a"));
        assert!(matches("/*", "/") && matches("/*", "/a") && !matches("/*", ""));
        assert!(matches("/", "/") && !matches("/", "/a"));
        assert!(matches("/\u{e9}t\u{e9}", "/\u{e9}t\u{e9}") && !matches("/a", "/b"));
    }
}
