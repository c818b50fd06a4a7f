//! Access of Forge Realtime: verifies tokens, derives contexts from them, and finds the topic that
//! a caller may subscribe to or publish on.
//!
//! A scope consists only of what a trusted issuer has signed or a platform has registered. A caller
//! selects from its context and asserts nothing itself.

pub mod audience;
mod authorize;
mod channel_token;
mod context;
mod jcs;
mod proof;
mod proxy;
mod sign;
mod topic;

#[cfg(test)]
mod tests;

pub use authorize::{Asked, Denied, Origin, authorize};
pub use channel_token::{ClaimsError, Grant, NewToken, Permission, Signed, Wanted};
pub use context::ContextClaims;
pub use proof::{ForgeAuth, ProofError};
pub use proxy::{As, ProxyAuthorization, ProxyAuthorizationError, Subject};
pub use sign::{NewPlace, NewProof, sign_proof};
pub use topic::{MissingEntity, NoInterface, Reach, Topic};
