//! The types of values: how each is read from its source, checked and shown.

use std::ffi::OsStr;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::de::DeValue;
use tracing::Level;
use url::{Host, Url};

use super::address::Address;
use super::error::start_of;
use super::listen::Listen;
use super::origins::Origins;
use super::proxies::Proxies;
use super::{Compression, IoBackend, LogFormat, Owner, Polling, Secret, Storage, TlsWish};
use crate::limits::{
    ACCEPTED_MAX, CERTIFICATES_MAX, CLUSTER_SERVERS_MAX, JWT_SECRET_BYTES_MIN, LISTENERS_MAX,
    ORIGINS_MAX, PREVIOUS_KEYS_MAX, PROXIES_MAX, RATE_LIMIT_MAX,
};
use crate::message::SlowConsumer;

/// Shortest [`Form::Key`] and [`Form::Word`], in bytes.
const WORD_BYTES_MIN: usize = 32;
/// The name of a rate without a limit, which is 0.
const RATE_OFF: &str = "off";
/// The name and value of the rate to which Forge itself limits an installation, in operations a
/// second.
const RATE_PRESET: (&str, u32) = ("forge", 50);

/// The form that a value must have, besides its key's type.
#[derive(Debug)]
pub(super) enum Form {
    /// Places to listen.
    Listens,
    Path,
    Paths,
    /// Permissions of a file.
    Mode,
    Number(RangeInclusive<u64>),
    Switch,
    /// Operations a second, by number or by name; 0 for no limit.
    Rate,
    /// One of these numbers.
    OneOf(&'static [u64]),
    /// One of these names.
    Choice(&'static [&'static str]),
    /// A secret: this prefix and more, such as those that InsForge takes from its operators.
    Key(&'static str),
    /// Secrets of that form.
    Keys(&'static str),
    /// A secret: a text that is long enough for HS256. It may have blanks inside.
    JwtSecret,
    /// A secret: a text that a header can hold as it stands, long enough not to be guessed.
    Word,
    /// URLs of NATS servers. A message does not repeat them, because a wrong one may hold a
    /// password.
    Urls,
    /// Origins of pages.
    Origins,
    /// Addresses and networks of proxies.
    Networks,
    /// A name in subjects and of streams, with at most so many characters.
    Name(usize),
    /// A text of any length.
    Text,
    /// Texts of any length.
    Texts,
    /// A secret of any length, which another party chose.
    Password,
    /// The URL of a JWK set.
    KeySetUrl,
    /// The URL of a PostgreSQL database, which may hold a password.
    Database,
}

impl Form {
    /// Returns what an error or the README says that a value must be.
    pub(super) fn expected(&self) -> String {
        match self {
            Self::Listens => format!(
                "an IP address and port, such as `127.0.0.1:7130`, or a unix socket, such as \
                 `unix:/run/fanfare.sock` (up to {LISTENERS_MAX}, with commas between them)"
            ),
            Self::Path => "a path".to_owned(),
            Self::Paths => {
                format!("a path (up to {CERTIFICATES_MAX}, with commas between them)")
            }
            Self::Mode => "three octal digits, such as `660`".to_owned(),
            Self::Number(range) => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Rate => {
                let (preset, _) = RATE_PRESET;
                format!("`{RATE_OFF}`, `{preset}` or a whole number from 1 to {RATE_LIMIT_MAX}")
            }
            Self::Choice(names) => {
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                let (last, others) = names.split_last().expect("a choice has names");
                format!("{} or {last}", others.join(", "))
            }
            Self::Key(prefix) => format!(
                "`{prefix}` and more, at least {WORD_BYTES_MIN} characters of `A-Z`, `a-z`, \
                 `0-9` and `-._~+/=`"
            ),
            Self::Keys(prefix) => format!(
                "{}, separated by commas (up to {PREVIOUS_KEYS_MAX})",
                Self::Key(prefix).expected()
            ),
            Self::JwtSecret => format!(
                "a text of at least {JWT_SECRET_BYTES_MIN} bytes without control characters or \
                 blanks at its ends"
            ),
            Self::Word => {
                format!("at least {WORD_BYTES_MIN} printable ASCII characters without blanks")
            }
            Self::OneOf(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
                let (last, others) = numbers.split_last().expect("a choice has numbers");
                format!("{} or {last}", others.join(", "))
            }
            Self::Urls => format!(
                "1 to {CLUSTER_SERVERS_MAX} URLs with only host and port, such as \
                 `nats://10.0.0.5:4222` or `tls://nats.example.org`, separated by commas"
            ),
            Self::Origins => format!(
                "1 to {ORIGINS_MAX} origins, such as `https://app.example.com`, \
                 `https://*.example.com` or `null`, separated by commas"
            ),
            Self::Networks => format!(
                "1 to {PROXIES_MAX} addresses and networks, such as `10.0.0.7`, `10.0.0.0/8` or \
                 `2001:db8::/32`, or `unix`, separated by commas"
            ),
            Self::Name(bytes_max) => format!("1 to {bytes_max} of `a-z`, `0-9` and `-`"),
            Self::KeySetUrl => "a URL on https, or on http and this machine, without a user, such \
                                as `https://issuer.example/.well-known/jwks.json`"
                .to_owned(),
            Self::Database => "a URL that begins with postgres:// or postgresql:// and names a \
                               host, such as `postgres://user:password@db.example.org/app`"
                .to_owned(),
            Self::Text | Self::Password => {
                "a text without control characters or blanks at its ends".to_owned()
            }
            Self::Texts => {
                format!("1 to {ACCEPTED_MAX} texts without control characters, separated by commas")
            }
        }
    }

    /// Returns whether values are secret.
    pub(super) fn is_secret(&self) -> bool {
        matches!(
            self,
            Self::Key(_)
                | Self::Keys(_)
                | Self::JwtSecret
                | Self::Word
                | Self::Password
                | Self::Database
        )
    }

    /// Returns whether an error must not repeat the value.
    pub(super) fn is_hidden(&self) -> bool {
        self.is_secret() || matches!(self, Self::Urls)
    }

    /// Returns whether a text is a secret or a name of this form.
    pub(super) fn fits(&self, text: &str) -> bool {
        match self {
            // What RFC 6750 lets a bearer token have.
            Self::Key(prefix) => {
                let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
                text.starts_with(prefix)
                    && text.len() >= WORD_BYTES_MIN
                    && text.bytes().all(is_token)
            }
            Self::JwtSecret => {
                text.len() >= JWT_SECRET_BYTES_MIN
                    && text.trim() == text
                    && !text.contains(char::is_control)
            }
            Self::Word => {
                text.len() >= WORD_BYTES_MIN && text.bytes().all(|b| b.is_ascii_graphic())
            }
            Self::Name(bytes_max) => {
                let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                (1..=*bytes_max).contains(&text.len()) && text.bytes().all(is_plain)
            }
            Self::KeySetUrl if !text.bytes().all(|b| b.is_ascii_graphic()) => false,
            Self::KeySetUrl => Url::parse(text).is_ok_and(|url| is_for_keys(&url)),
            // The parser of URLs passes over what should not be there.
            Self::Database if !text.bytes().all(|b| b.is_ascii_graphic()) => false,
            Self::Database => Url::parse(text).is_ok_and(|url| {
                matches!(url.scheme(), "postgres" | "postgresql") && url.has_host()
            }),
            Self::Text | Self::Password => {
                !text.is_empty() && text.trim() == text && !text.contains(char::is_control)
            }
            _ => false,
        }
    }

    /// Returns what is wrong with a value of several parts; `None` if the value as a whole says it.
    pub(super) fn mistake(&self, raw: Raw<'_>) -> Option<String> {
        match self {
            Self::Origins => Origins::read(&raw.all_texts()?).err().map(|error| error.to_string()),
            Self::Networks => Proxies::read(&raw.all_texts()?).err().map(|error| error.to_string()),
            _ => None,
        }
    }

    fn names(&self) -> &'static [&'static str] {
        if let Self::Choice(names) = self { names } else { &[] }
    }

    fn number(&self, raw: Raw<'_>) -> Option<u64> {
        match self {
            Self::Number(range) => raw.number().filter(|number| range.contains(number)),
            Self::OneOf(numbers) => raw.number().filter(|number| numbers.contains(number)),
            Self::Rate => match raw.text() {
                Some(RATE_OFF) => Some(0),
                Some(name) if name == RATE_PRESET.0 => Some(RATE_PRESET.1.into()),
                _ => raw.number().filter(|rate| (1..=RATE_LIMIT_MAX.into()).contains(rate)),
            },
            _ => None,
        }
    }
}

/// A value as its source gives it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// From the environment or the command line; it need not be UTF-8.
    Plain(&'a OsStr),
    /// From a file, whose values have types.
    Toml(&'a DeValue<'a>),
}

impl<'a> Raw<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Plain(text) => text.to_str(),
            Self::Toml(value) => value.as_str(),
        }
    }

    /// Returns the texts of an array, or of a text with commas.
    fn all_texts(self) -> Option<Vec<&'a str>> {
        match self {
            Self::Toml(DeValue::Array(all)) => {
                all.iter().map(|one| one.get_ref().as_str()).collect()
            }
            _ => Some(self.text()?.split(',').collect()),
        }
    }

    /// Does the same; `None` if they are more than `most`.
    fn texts(self, most: usize) -> Option<Vec<&'a str>> {
        self.all_texts().filter(|texts| (1..=most).contains(&texts.len()))
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Toml(value) => {
                let number = value.as_integer()?;
                u64::from_str_radix(number.as_str(), number.radix()).ok()
            }
            Self::Plain(_) => self.text()?.parse().ok(),
        }
    }

    /// Returns the value as a message shows it, cut short if it is long.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Plain(text) => format!("\"{}\"", start_of(&text.to_string_lossy())),
            Self::Toml(DeValue::String(text)) => format!("\"{}\"", start_of(text)),
            Self::Toml(DeValue::Integer(number)) => start_of(&number.to_string()),
            Self::Toml(DeValue::Float(number)) => start_of(&number.to_string()),
            Self::Toml(DeValue::Boolean(switch)) => switch.to_string(),
            Self::Toml(value) => format!("a value of type {}", value.type_str()),
        }
    }
}

/// A type that a key may have.
pub(super) trait Value: Sized {
    /// Reads a value; `None` if it is of the wrong type, form or size.
    fn read(raw: Raw<'_>, form: &Form) -> Option<Self>;

    /// Returns the value as TOML; `None` if it is not set.
    fn show(&self, form: &Form) -> Option<String>;

    /// Returns the value of a key that is not set; `None` if keys of this type need one.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    fn read(raw: Raw<'_>, form: &Form) -> Option<Self> {
        T::read(raw, form).map(Some)
    }

    fn show(&self, form: &Form) -> Option<String> {
        self.as_ref()?.show(form)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

/// The permissions of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode(pub u32);

impl Value for Mode {
    /// Reads a text or a number whose digits are octal.
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        let number = raw.number().map(|number| number.to_string());
        let text = number.as_deref().or_else(|| raw.text())?;
        let is_mode = matches!(text.as_bytes(), [b'1'..=b'7', b'0'..=b'7', b'0'..=b'7']);
        is_mode.then(|| u32::from_str_radix(text, 8).ok().map(Self)).flatten()
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(format!("{:o}", self.0))
    }
}

impl Value for Vec<Listen> {
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        let all: Option<Self> =
            raw.texts(LISTENERS_MAX)?.iter().map(|text| text.trim().parse().ok()).collect();
        all.filter(|all| are_different(all))
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(list(self.iter()))
    }
}

impl Value for Vec<PathBuf> {
    fn read(raw: Raw<'_>, form: &Form) -> Option<Self> {
        let path = |text: &&str| PathBuf::read(Raw::Plain(text.trim().as_ref()), form);
        raw.texts(CERTIFICATES_MAX)?.iter().map(path).collect()
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(list(self.iter().map(|path| path.display())))
    }
}

impl Value for PathBuf {
    /// Refuses control characters: several lines are the content of a file where its path should
    /// stand.
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        let path = match raw {
            Raw::Plain(path) => path,
            Raw::Toml(value) => OsStr::new(value.as_str()?),
        };
        let bytes = path.as_encoded_bytes();
        let is_path = !bytes.is_empty() && !bytes.iter().any(u8::is_ascii_control);
        is_path.then(|| path.into())
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(quoted(&self.display()))
    }
}

impl Value for bool {
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        match raw {
            Raw::Toml(value) => value.as_bool(),
            Raw::Plain(_) => raw.text()?.parse().ok(),
        }
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for Secret {
    /// Leaves out line ends at the end, because `echo` and most editors write one. Issuers and
    /// clients do not have them in their copy of the secret.
    fn read(raw: Raw<'_>, form: &Form) -> Option<Self> {
        let text = raw.text()?.trim_end_matches(['\r', '\n']);
        form.fits(text).then(|| text.into())
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(quoted(&"[masked]"))
    }
}

impl Value for Vec<Secret> {
    fn read(raw: Raw<'_>, form: &Form) -> Option<Self> {
        let Form::Keys(prefix) = form else { return None };
        let key = |text: &&str| Secret::read(Raw::Plain(text.trim().as_ref()), &Form::Key(prefix));
        raw.texts(PREVIOUS_KEYS_MAX)?.iter().map(key).collect()
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(quoted(&"[masked]"))
    }
}

impl Value for Vec<String> {
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        let text = |text: &&str| String::read(Raw::Plain(text.trim().as_ref()), &Form::Text);
        raw.texts(ACCEPTED_MAX)?.iter().map(text).collect()
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(list(self.iter()))
    }
}

impl Value for String {
    fn read(raw: Raw<'_>, form: &Form) -> Option<Self> {
        raw.text().filter(|text| form.fits(text)).map(str::to_owned)
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(quoted(self))
    }
}

impl Value for Vec<Address> {
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        let texts = raw.texts(CLUSTER_SERVERS_MAX)?;
        let all: Option<Self> = texts.iter().map(|text| text.trim().parse().ok()).collect();
        // A server that stands twice would be tried twice.
        all.filter(|all| are_different(all))
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(list(self.iter()))
    }
}

impl Value for Proxies {
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        Self::read(&raw.all_texts()?).ok()
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(list(self.entries()))
    }
}

impl Value for Origins {
    fn read(raw: Raw<'_>, _form: &Form) -> Option<Self> {
        Self::read(&raw.all_texts()?).ok()
    }

    fn show(&self, _form: &Form) -> Option<String> {
        Some(list(self.entries()))
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Value for $number {
            fn read(raw: Raw<'_>, form: &Form) -> Option<Self> {
                form.number(raw)?.try_into().ok()
            }

            fn show(&self, form: &Form) -> Option<String> {
                let is_off = matches!(form, Form::Rate) && *self == 0;
                Some(if is_off { quoted(&RATE_OFF) } else { self.to_string() })
            }
        }
    )+};
}

numbers!(u32, u64, usize);

/// Types with a value for each name of their keys' [`Form::Choice`], in the same order.
macro_rules! choices {
    ($($choice:ty: $values:expr;)+) => {$(
        impl Value for $choice {
            fn read(raw: Raw<'_>, form: &Form) -> Option<Self> {
                let given = raw.text()?;
                let at = form.names().iter().position(|name| *name == given)?;
                $values.get(at).copied()
            }

            fn show(&self, form: &Form) -> Option<String> {
                let at = $values.iter().position(|value| value == self)?;
                form.names().get(at).map(|name| quoted(name))
            }
        }
    )+};
}

choices! {
    Level: [Self::ERROR, Self::WARN, Self::INFO, Self::DEBUG, Self::TRACE];
    LogFormat: [Self::Text, Self::Json];
    IoBackend: [Self::Auto, Self::Ring, Self::Direct];
    Compression: [Self::Off, Self::On];
    Storage: [Self::Memory, Self::File];
    Owner: [Self::Fanfare, Self::Insforge];
    Polling: [Self::Refuse, Self::Pass];
    TlsWish: [Self::Auto, Self::On, Self::Off];
    // Events of Forge must not be conflated, so `SlowConsumer::Latest` is left out.
    SlowConsumer: [Self::Close, Self::DropOldest];
}

/// Returns whether public keys may be fetched from a URL: no other machine can answer in its place.
fn is_for_keys(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    !has_user && (url.scheme() == "https" && url.has_host() || url.scheme() == "http" && is_here)
}

fn are_different<T: PartialEq>(all: &[T]) -> bool {
    all.iter().zip(1..).all(|(one, next)| !all[next..].contains(one))
}

/// Returns a list as TOML: one value stands for itself.
fn list(values: impl Iterator<Item = impl Display>) -> String {
    let texts: Vec<_> = values.map(|one| quoted(&one)).collect();
    if let [one] = &texts[..] { one.clone() } else { format!("[{}]", texts.join(", ")) }
}

fn quoted(value: &dyn Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}
