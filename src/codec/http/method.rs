//! The methods of requests that the node knows by name.

/// A request's method, as far as the node distinguishes them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Method {
    /// `GET` (RFC 9110 section 9.3.1).
    #[default]
    Get,
    /// `HEAD`, which is answered like `GET` but without the body.
    Head,
    /// `POST` (RFC 9110 section 9.3.3).
    Post,
    /// `PUT` (RFC 9110 section 9.3.4).
    Put,
    /// `PATCH` (RFC 5789 section 2).
    Patch,
    /// `DELETE` (RFC 9110 section 9.3.5).
    Delete,
    /// `OPTIONS` (RFC 9110 section 9.3.7).
    Options,
    /// Any other method. Names are case-sensitive, so this includes `get`.
    Other,
}

impl Method {
    /// Returns the name as the request line has it; empty for [`Method::Other`].
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}
