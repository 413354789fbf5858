use std::{error::Error, fmt, str::FromStr};

use jiff::tz::{TimeZone, TimeZoneDatabase};

/// A time zone, by its IANA name: `Europe/Berlin`, `America/New_York`, `UTC`.
///
/// The zones are compiled in, from the database that the `jiff` crate bundles: no file of the
/// machine is read, and a test means the same everywhere. When a country changes its rules, a
/// newer build knows.
///
/// ```
/// use buttress_slo::Zone;
///
/// let zone: Zone = "Europe/Berlin".parse().unwrap();
/// assert_eq!(zone.to_string(), "Europe/Berlin");
/// assert!("Middle/Earth".parse::<Zone>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    pub(crate) fn get(&self) -> TimeZone {
        self.0.clone()
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Self, ZoneError> {
        let zone = TimeZoneDatabase::bundled().get(name);
        zone.map(Self).map_err(|_| ZoneError { name: name.into() })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

/// There is no time zone of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    name: String,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no time zone; write its IANA name, such as Europe/Berlin", self.name)
    }
}

impl Error for ZoneError {}
