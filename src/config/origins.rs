//! The origins whose pages may use the node (RFC 6454): `https://app.example.com`,
//! `https://*.example.com` or `null`.

use std::fmt;

use thiserror::Error;
use url::Url;

use super::entries::read_entries;
use crate::limits::ORIGINS_MAX;

/// The leftmost label of a name that stands for others.
const WILDCARD: &str = "*.";
/// What stands for the wildcard while the rest is parsed.
const STAND_IN: &str = "x.";
/// The origin of pages that have none, such as files and sandboxed frames.
const NULL: &str = "null";

/// The origins whose pages may use the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origins(Vec<Pattern>);

/// An entry of the list, in the form in which browsers send origins.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    /// This origin alone.
    Named(String),
    /// Every origin that begins with the first text, ends in the second, and has one label between
    /// them.
    Wildcard(String, String),
}

/// What the node lets a page do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Its origin is listed by its name: it may send credentials of its browser.
    Named,
    /// Its origin matches a wildcard: it may not.
    Wildcard,
    /// Its origin is not in the list.
    Refused,
}

/// Why an entry, or the list, is not valid.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum OriginError {
    /// The entry begins with no scheme.
    #[error("`{0}` has no scheme: write `https://{0}`")]
    Scheme(String),
    /// The entry ends in a slash.
    #[error("`{0}/` ends in a slash: write `{0}`")]
    Slash(String),
    /// The entry has more than an origin has.
    #[error("`{0}` has a path, a query or a user, which an origin has not")]
    More(String),
    /// A wildcard stands elsewhere than in the leftmost label, or alone.
    #[error(
        "`{0}` has its wildcard in the wrong place: only the whole leftmost label of a name may be \
         one, as in `https://*.example.com`"
    )]
    Wildcard(String),
    /// The entry names no host that a browser could load a page from.
    #[error("`{0}` names no host and port that a page can come from")]
    Host(String),
    /// The entry occurs twice, perhaps in another spelling.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// There are no entries, or too many.
    #[error("there must be 1 to {ORIGINS_MAX} of them")]
    Number,
}

impl Origins {
    /// Reads a list of entries.
    ///
    /// # Errors
    /// What is wrong with the first entry that is not valid, or with the list.
    pub(super) fn read(entries: &[&str]) -> Result<Self, OriginError> {
        let wrong = |twice: Option<&Pattern>| {
            twice.map_or(OriginError::Number, |entry| OriginError::Twice(entry.to_string()))
        };
        read_entries(entries, ORIGINS_MAX, Pattern::read, wrong).map(Self)
    }

    /// Returns what a page of this origin may do. `origin` is the value of a header `Origin`.
    pub fn admit(&self, origin: &str) -> Admission {
        let matching = self.0.iter().filter(|pattern| pattern.is_of(origin));
        let found = matching.map(|pattern| match pattern {
            Pattern::Named(_) => Admission::Named,
            Pattern::Wildcard(..) => Admission::Wildcard,
        });
        // An origin that matches both may do what its name says.
        found.fold(Admission::Refused, |before, found| match before {
            Admission::Named => before,
            _ => found,
        })
    }

    /// Returns the entries, as [`Origins::read`] reads them.
    pub(super) fn entries(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

impl Pattern {
    fn read(entry: &str) -> Result<Self, OriginError> {
        if entry == NULL {
            return Ok(Self::Named(NULL.to_owned()));
        }
        if entry == "*" {
            return Err(OriginError::Wildcard(entry.to_owned()));
        }
        let Some((scheme, rest)) = entry.split_once("://") else {
            return Err(OriginError::Scheme(entry.to_owned()));
        };
        if let Some(bare) =
            entry.strip_suffix('/').filter(|_| !rest.trim_end_matches('/').contains('/'))
        {
            return Err(OriginError::Slash(bare.to_owned()));
        }
        if rest.contains(['/', '?', '#', '@', '\\']) {
            return Err(OriginError::More(entry.to_owned()));
        }
        let Some(name) = rest.strip_prefix(WILDCARD) else {
            if rest.contains('*') {
                return Err(OriginError::Wildcard(entry.to_owned()));
            }
            return normal(entry)
                .map(Self::Named)
                .ok_or_else(|| OriginError::Host(entry.to_owned()));
        };
        if name.contains('*') || scheme.contains('*') {
            return Err(OriginError::Wildcard(entry.to_owned()));
        }
        let normal = normal(&format!("{scheme}://{STAND_IN}{name}"));
        let parts = normal.as_deref().and_then(|normal| normal.split_once("://"));
        let (scheme, rest) = parts.ok_or_else(|| OriginError::Host(entry.to_owned()))?;
        let name = rest
            .strip_prefix(STAND_IN)
            .filter(|name| !matches!(name.chars().next(), None | Some(':' | '.')));
        let name = name.ok_or_else(|| OriginError::Host(entry.to_owned()))?;
        Ok(Self::Wildcard(format!("{scheme}://"), format!(".{name}")))
    }

    fn is_of(&self, origin: &str) -> bool {
        match self {
            Self::Named(name) => name == origin,
            Self::Wildcard(scheme, rest) => {
                let label = origin.strip_prefix(&**scheme);
                let label = label.and_then(|origin| origin.strip_suffix(&**rest));
                label.is_some_and(is_label)
            }
        }
    }
}

/// Returns an origin as browsers send it: in lower case, without a port that its scheme implies.
/// `None` if no page can come from there.
fn normal(entry: &str) -> Option<String> {
    if entry.contains(|c: char| c.is_whitespace() || c.is_control()) || entry.ends_with(':') {
        return None;
    }
    let url = Url::parse(entry).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    // In a name these are taken for what they are not.
    if host.contains(['*', '%', ',']) || url.scheme() == "file" {
        return None;
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", url.scheme()))
}

/// Returns whether this is one label of a name in DNS, as browsers send it.
fn is_label(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_inner)
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Wildcard(scheme, rest) => write!(f, "{scheme}*{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entry: &str) -> Result<String, String> {
        let read = Origins::read(&[entry]).map_err(|error| error.to_string())?;
        Ok(read.entries().next().unwrap())
    }

    #[test]
    fn entries_are_kept_as_browsers_send_origins() {
        let cases = [
            ("https://app.example.com", "https://app.example.com"),
            (" HTTPS://App.Example.com:443 ", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://*.Example.com", "https://*.example.com"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
            ("http://*.localhost", "http://*.localhost"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
        ];
        for (entry, kept) in cases {
            assert_eq!(read(entry).as_deref(), Ok(kept), "{entry}");
            assert_eq!(read(kept).as_deref(), Ok(kept), "{kept}");
        }
    }

    #[test]
    fn other_entries_are_refused_with_what_is_wrong() {
        let cases = [
            ("app.example.com", "has no scheme: write `https://app.example.com`"),
            ("localhost:3000", "has no scheme"),
            ("https://app.example.com/", "ends in a slash: write `https://app.example.com`"),
            ("https://app.example.com/path", "has a path"),
            ("https://app.example.com/path/", "has a path"),
            ("https://app.example.com?a", "has a path"),
            ("https://user@app.example.com", "has a path, a query or a user"),
            ("*", "wildcard in the wrong place"),
            ("https://*", "wildcard in the wrong place"),
            ("https://app.*.com", "wildcard in the wrong place"),
            ("https://app*.example.com", "wildcard in the wrong place"),
            ("https://*app.example.com", "wildcard in the wrong place"),
            ("https://*.*.example.com", "wildcard in the wrong place"),
            ("*://app.example.com", "names no host"),
            ("*://*.example.com", "wildcard in the wrong place"),
            ("https://*.", "names no host"),
            ("https://*.:80", "names no host"),
            ("https://*.1.2.3", "names no host"),
            ("https://", "ends in a slash"),
            ("https://app.example.com:99999", "names no host"),
            ("https://app.example.com:", "names no host"),
            ("https://app example.com", "names no host"),
            ("file://host", "names no host"),
            ("", "has no scheme"),
        ];
        for (entry, part) in cases {
            let error = read(entry).unwrap_err();
            assert!(error.contains(part), "{entry}: {error}");
        }
        let twice = ["https://a.example", "https://A.example:443"];
        assert_eq!(Origins::read(&twice), Err(OriginError::Twice(twice[0].to_owned())));
        assert_eq!(Origins::read(&[]), Err(OriginError::Number));
        assert_eq!(Origins::read(&[NULL; ORIGINS_MAX + 1]), Err(OriginError::Number));
    }

    #[test]
    fn only_listed_origins_are_admitted() {
        let listed = ["https://app.example.com", "https://*.example.com", "http://localhost:3000"];
        let origins = Origins::read(&listed).unwrap();
        let cases = [
            ("https://app.example.com", Admission::Named),
            ("https://a-1.example.com", Admission::Wildcard),
            ("http://localhost:3000", Admission::Named),
            ("http://app.example.com", Admission::Refused),
            ("https://app.example.com:8443", Admission::Refused),
            ("https://example.com", Admission::Refused),
            ("https://.example.com", Admission::Refused),
            ("https://a.b.example.com", Admission::Refused),
            ("https://evil/.example.com", Admission::Refused),
            ("https://evil.org#.example.com", Admission::Refused),
            ("https://evilexample.com", Admission::Refused),
            ("https://app.example.com.evil.org", Admission::Refused),
            ("http://localhost", Admission::Refused),
            ("null", Admission::Refused),
            ("", Admission::Refused),
        ];
        for (origin, admission) in cases {
            assert_eq!(origins.admit(origin), admission, "{origin}");
        }
        // A wildcard before the name makes no difference.
        let turned = Origins::read(&[listed[1], listed[0], NULL]).unwrap();
        assert_eq!(turned.admit(listed[0]), Admission::Named);
        assert_eq!(turned.admit(NULL), Admission::Named);
    }
}
